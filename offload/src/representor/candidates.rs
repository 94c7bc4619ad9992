//! The functions that there are, for an error message: `c1pf0vf0-7 (pci/0000:03:00.0)`.

use std::fmt::Write;

use super::{Entry, Function, Netdev};

/// Neighbours that differ only in their last number are one range.
pub(super) fn text<'a>(entries: impl Iterator<Item = &'a Entry>) -> String {
    let mut groups: Vec<Group> = Vec::new();
    for entry in entries {
        let Some(item) = Group::of(entry) else { continue };
        match groups.last_mut() {
            Some(group) if group.takes(&item) => group.last = item.last,
            _ => groups.push(item),
        }
    }
    if groups.is_empty() {
        return "none".to_owned();
    }
    let mut text = String::new();
    let mut groups = groups.into_iter().peekable();
    while let Some(group) = groups.next() {
        group.write(&mut text);
        // The place is said once for all that are there. Writing to a String cannot fail.
        let _ = match groups.peek() {
            Some(next) if next.place == group.place => write!(text, ", "),
            Some(_) => write!(text, " ({}); ", group.place),
            None => write!(text, " ({})", group.place),
        };
    }
    text
}

#[derive(PartialEq, Eq)]
struct Group {
    /// All but the last number: `c1pf0vf`.
    stem: String,
    first: u32,
    last: u32,
    place: String,
    without_device: bool,
}

impl Group {
    /// `None` for what is no candidate: cables and PFs.
    fn of(entry: &Entry) -> Option<Self> {
        let number = match entry.function {
            Function::Vf { vf, .. } => u32::from(vf.vf),
            Function::Sf { .. } | Function::Uplink { .. } | Function::Pf { .. } => return None,
        };
        let name = entry.function.to_string();
        let place = match (&entry.device, &entry.switch_id) {
            (Some(device), _) => device.to_string(),
            (None, Some(id)) => format!("switch {id}"),
            (None, None) => "unknown switch".to_owned(),
        };
        Some(Self {
            stem: name.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned(),
            first: number,
            last: number,
            place,
            without_device: matches!(entry.netdev, Netdev::Missing(_)),
        })
    }

    fn takes(&self, next: &Self) -> bool {
        (&self.stem, &self.place, self.without_device) == (&next.stem, &next.place, next.without_device)
            && self.last.checked_add(1) == Some(next.first)
    }

    fn write(&self, text: &mut String) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{}", self.stem, self.first);
        if self.last != self.first {
            let _ = write!(text, "-{}", self.last);
        }
        if self.without_device {
            text.push_str(" without a network device");
        }
    }
}
