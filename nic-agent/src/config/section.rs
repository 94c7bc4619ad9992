//! Reads a TOML table key by key and collects what is wrong with it, so that one start reports all mistakes.

use std::fmt;

use toml::{Table, Value};

/// One mistake: which key, what stands there, and what to put there instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub key: String,
    /// As TOML; `None` when the key is missing.
    pub value: Option<String>,
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} = {value}: {}", self.key, self.remedy),
            None => write!(f, "{} is missing: {}", self.key, self.remedy),
        }
    }
}

/// A value's text in a message. Values are short; whoever puts a novel there gets its beginning back.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 120;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// What is left to read of one table.
pub(super) struct Section<'a> {
    name: String,
    table: Table,
    known: Vec<&'static str>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Section<'a> {
    pub(super) fn root(table: Table, problems: &'a mut Vec<Problem>) -> Self {
        Self { name: String::new(), table, known: Vec::new(), problems }
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// Does the key stand in the file?
    pub(super) fn holds(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.table.remove(key)
    }

    /// Reports `value` under `key` of this section.
    pub(super) fn problem(&mut self, key: &str, value: Option<&Value>, remedy: impl Into<String>) {
        let problem = Problem { key: self.path(key), value: value.map(shown), remedy: remedy.into() };
        self.problems.push(problem);
    }

    /// Reports that a key is missing, unless something was said about it already.
    pub(super) fn problem_if_absent(&mut self, key: &str, remedy: &str) {
        let path = self.path(key);
        if !self.problems.iter().any(|problem| problem.key == path) {
            self.problem(key, None, remedy);
        }
    }

    fn convert<T>(
        &mut self,
        key: &str,
        value: &Value,
        parse: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        match parse(value) {
            Ok(parsed) => Some(parsed),
            Err(remedy) => {
                self.problem(key, Some(value), remedy);
                None
            }
        }
    }

    /// A key that has no default. `remedy` says what to put there.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        remedy: &str,
        parse: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        if let Some(value) = self.take(key) {
            return self.convert(key, &value, parse);
        }
        self.problem(key, None, remedy);
        None
    }

    /// A key that may be absent and then means nothing.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(key)?;
        self.convert(key, &value, parse)
    }

    /// A key with a default, which is read as if it stood in the file. `None` only when a problem was reported.
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        default: impl Into<Value>,
        parse: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(key).unwrap_or_else(|| default.into());
        self.convert(key, &value, parse)
    }

    /// A table below this one; an absent one is empty.
    pub(super) fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let table = match self.take(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                self.problem(key, Some(&other), format!("write a table: [{}]", self.path(key)));
                Table::new()
            }
        };
        let mut section = Section { name: self.path(key), table, known: Vec::new(), problems: self.problems };
        let result = read(&mut section);
        section.finish();
        result
    }

    /// An array of tables below this one.
    pub(super) fn sections<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'_>) -> Option<T>,
    ) -> Vec<T> {
        let items = match self.take(key) {
            None => Vec::new(),
            Some(Value::Array(items)) => items,
            Some(other) => {
                self.problem(key, Some(&other), format!("write tables: [[{}]]", self.path(key)));
                Vec::new()
            }
        };
        let mut results = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let name = self.path(&format!("{key}[{index}]"));
            let Value::Table(table) = item else {
                self.problems.push(Problem {
                    key: name,
                    value: Some(shown(&item)),
                    remedy: format!("write a table: [[{}]]", self.path(key)),
                });
                continue;
            };
            let mut section = Section { name, table, known: Vec::new(), problems: self.problems };
            results.extend(read(&mut section));
            section.finish();
        }
        results
    }

    /// Whatever nobody took is a mistake: a misspelt key must not silently mean its default.
    pub(super) fn finish(self) {
        let Self { name, table, known, problems } = self;
        for (key, value) in table {
            let place = if name.is_empty() { "this file has".to_owned() } else { format!("[{name}] has") };
            let path = if name.is_empty() { key } else { format!("{name}.{key}") };
            let remedy = format!("unknown key, remove it; {place}: {}", known.join(", "));
            problems.push(Problem { key: path, value: Some(shown(&value)), remedy });
        }
    }
}
