//! Whose filter it is, and which rule's: the cookie of its first action.

use crate::flower::{Actions, Cookie, Rule};
use crate::policy::Origin;

/// Four bytes, and the rule's [`Origin`] if there is one: 12 bytes at most, which no OVS takes for a flow id of its own.
const MARK: [u8; 4] = *b"DbUl";

/// Of a filter that no rule asked for.
pub fn ours(actions: Actions) -> Actions {
    Actions { cookie: Cookie::new(&MARK), ..actions }
}

/// Of a filter that this rule asked for.
pub fn of_rule(actions: &Actions, origin: Origin) -> Actions {
    let mut bytes = [0; 12];
    let (mark, number) = bytes.split_at_mut(MARK.len());
    mark.copy_from_slice(&MARK);
    number.copy_from_slice(&origin.0.to_be_bytes());
    Actions { cookie: Cookie::new(&bytes), ..actions.clone() }
}

/// Does it bear the mark of the underlay's filters?
pub fn is_ours(rule: &Rule) -> bool {
    rule.actions.cookie.is_some_and(|cookie| cookie.as_bytes().starts_with(&MARK))
}

/// The rule of the policy that a filter stands for. `None`: it is part of the frame that holds all rules.
pub fn origin_of(rule: &Rule) -> Option<Origin> {
    let cookie = rule.actions.cookie?;
    let number = cookie.as_bytes().strip_prefix(&MARK)?;
    Some(Origin(u64::from_be_bytes(number.try_into().ok()?)))
}
