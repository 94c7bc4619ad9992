//! How a logical port is named after its pod.

use std::fmt;
use std::str::FromStr;

/// A text with fields in braces, for instance `{namespace}_{name}`. Names at least the pod, so that no two pods share
/// a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Namespace,
    Name,
    Uid,
    Network,
    Interface,
}

const FIELDS: [(&str, Field); 5] = [
    ("namespace", Field::Namespace),
    ("name", Field::Name),
    ("uid", Field::Uid),
    ("network", Field::Network),
    ("interface", Field::Interface),
];

/// What stands for the fields.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub network: &'a str,
    pub interface: &'a str,
}

impl Template {
    pub fn render(&self, fields: Fields<'_>) -> String {
        let text = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(Field::Namespace) => fields.namespace.to_owned(),
            Part::Field(Field::Name) => fields.name.to_owned(),
            Part::Field(Field::Uid) => fields.uid.to_owned(),
            Part::Field(Field::Network) => fields.network.to_owned(),
            Part::Field(Field::Interface) => fields.interface.to_owned(),
        };
        self.0.iter().map(text).collect()
    }

    fn has(&self, field: Field) -> bool {
        self.0.contains(&Part::Field(field))
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = || FIELDS.map(|(name, _)| format!("{{{name}}}")).join(" ");
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, tail) = after
                .split_once('}')
                .ok_or_else(|| format!("close the brace; the fields are {}", known()))?;
            let field = FIELDS.iter().find(|(known, _)| *known == name).map(|(_, field)| *field);
            let field = field.ok_or_else(|| format!("use the fields {}", known()))?;
            parts.extend((!before.is_empty()).then(|| Part::Text(before.to_owned())));
            parts.push(Part::Field(field));
            rest = tail;
        }
        parts.extend((!rest.is_empty()).then(|| Part::Text(rest.to_owned())));
        let fine = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/".contains(&b);
        for part in &parts {
            if let Part::Text(text) = part
                && !text.bytes().all(fine)
            {
                return Err("use letters, digits and - _ . : / between the fields".to_owned());
            }
        }
        let template = Self(parts);
        if template.has(Field::Uid) || (template.has(Field::Namespace) && template.has(Field::Name)) {
            Ok(template)
        } else {
            Err("name the pod, by {namespace} and {name} or by {uid}: two pods must not share a port"
                .to_owned())
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.0 {
            match part {
                Part::Text(text) => f.write_str(text)?,
                Part::Field(field) => {
                    let name = FIELDS.iter().find(|(_, known)| known == field).map_or("", |(name, _)| name);
                    write!(f, "{{{name}}}")?;
                }
            }
        }
        Ok(())
    }
}
