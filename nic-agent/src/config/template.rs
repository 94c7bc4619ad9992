//! How a logical port is named after its pod.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text with fields in braces, for instance `{namespace}_{name}`. It tells the pod, whatever stands for the other
/// fields: so no two pods share a port, and a server, which says what network and interface are, can only name ports of
/// its own pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Part {
    Text(String),
    Field(Field),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

    /// Can the pod be read off every name that this makes?
    fn tells_the_pod(&self) -> bool {
        let ahead = readable(self.0.iter(), |text| text.chars().next());
        let back = readable(self.0.iter().rev(), |text| text.chars().next_back());
        let has = |field| ahead.contains(&field) || back.contains(&field);
        has(Field::Uid) || (has(Field::Namespace) && has(Field::Name))
    }
}

impl Field {
    /// Can it have this character in it?
    fn may_have(self, c: char) -> bool {
        c.is_ascii_alphanumeric()
            || match self {
                Self::Namespace => c == '-',
                Self::Name => "-.".contains(c),
                Self::Uid => false,
                Self::Network => "_.-".contains(c),
                Self::Interface => !"/:".contains(c),
            }
    }
}

/// The fields that one can read off a name from one end. One ends where a character follows (`nearest`) that it cannot
/// have; uids are all of one length.
fn readable<'a>(parts: impl Iterator<Item = &'a Part>, nearest: impl Fn(&str) -> Option<char>) -> Vec<Field> {
    let mut parts = parts.peekable();
    let mut read = Vec::new();
    while let Some(part) = parts.next() {
        let Part::Field(field) = part else { continue };
        let ends = match parts.peek() {
            _ if *field == Field::Uid => true,
            None => true,
            Some(Part::Text(text)) => nearest(text).is_some_and(|c| !field.may_have(c)),
            Some(Part::Field(_)) => false,
        };
        if !ends {
            break;
        }
        read.push(*field);
    }
    read
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
        if template.tells_the_pod() {
            Ok(template)
        } else {
            Err("name the pod, by {namespace} and {name} or by {uid}, and separate these by what they cannot have in them \
                 (_ : /), as in {namespace}_{name}_{interface}: two pods must not share a port, whatever a server says \
                 of network and interface"
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Two pods that get one name, of all that a few short words make.
    fn collision(template: &Template) -> Option<String> {
        let names = ["a", "aa", "a-a", "a.a", "b"];
        let words = ["a", "aa", "a-a", "a.a", "a_a", "b"];
        let mut whose = BTreeMap::new();
        let pods = ["a", "aa", "a-a", "b"].iter().flat_map(|ns| names.iter().map(move |name| (*ns, *name)));
        for (number, (namespace, name)) in pods.enumerate() {
            let uid = format!("{number:02}");
            for (network, interface) in words.iter().flat_map(|n| words.iter().map(move |i| (*n, *i))) {
                let port = template.render(Fields { namespace, name, uid: &uid, network, interface });
                if *whose.entry(port.clone()).or_insert(number) != number {
                    return Some(port);
                }
            }
        }
        None
    }

    fn parts(text: &str) -> Template {
        let field = |name: &str| FIELDS.iter().find(|(known, _)| *known == name).unwrap().1;
        let mut parts = Vec::new();
        for piece in text.split_inclusive('}') {
            let (before, name) = piece.split_once('{').unwrap_or((piece, ""));
            parts.extend((!before.is_empty()).then(|| Part::Text(before.to_owned())));
            parts.extend(name.strip_suffix('}').map(|it| Part::Field(field(it))));
        }
        Template(parts)
    }

    #[test]
    fn no_two_pods_have_one_name_whatever_the_server_says() {
        let separators = ["", "-", "_", ".", ":", "/", "-x-", "_x-", "x"];
        let fields = ["{namespace}", "{name}", "{uid}", "{network}", "{interface}"];
        let (mut taken, mut refused) = (0, 0);
        for first in fields {
            for second in fields {
                for third in fields {
                    for separator in separators {
                        for other in ["_", ".", ""] {
                            let text = format!("{first}{separator}{second}{other}{third}");
                            let found = collision(&parts(&text));
                            match text.parse::<Template>() {
                                Ok(_) => {
                                    taken += 1;
                                    assert_eq!(found, None, "{text}");
                                }
                                Err(_) => refused += usize::from(found.is_some()),
                            }
                        }
                    }
                }
            }
        }
        assert!(taken > 500 && refused > 500, "{taken} {refused}");
    }

    #[test]
    fn what_two_pods_could_share_is_refused() {
        for text in [
            "{namespace}-{name}",
            "{namespace}{name}",
            "{name}.{namespace}.{network}.ovn",
            "{namespace}_{name}-{interface}",
            "{namespace}_{name}.{network}",
            "{network}",
            "{namespace}_{interface}",
        ] {
            assert!(collision(&parts(text)).is_some(), "{text}");
            let said = text.parse::<Template>().unwrap_err();
            assert!(said.contains("must not share a port"), "{said}");
        }
        for text in [
            "{namespace}_{name}",
            "{name}.{namespace}",
            "{namespace}_{name}_{interface}",
            "{network}/{namespace}/{name}",
            "{interface}.{uid}",
            "{uid}-{network}",
        ] {
            assert_eq!(text.parse::<Template>().map(|it| collision(&it)), Ok(None), "{text}");
        }
    }
}
