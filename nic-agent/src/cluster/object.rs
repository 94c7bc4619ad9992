//! An object on its way in: its text, which is read when its turn has come. What is kept of it, its kind says.
//!
//! An object that cannot be read must not hide the others of its kind, so receiving one never fails: reading it says what is
//! wrong. Nor may one that is large beyond measure take the memory that the others need.

mod bounded;
mod json;

use std::borrow::Cow;

use kube::Resource;
use kube::core::{ClusterResourceScope, ObjectMeta};
use serde::{Deserialize, Deserializer};

use self::bounded::Bounded;
use self::json::Json;
use super::kinds::Watched;
use super::receivers::Receivers;
use crate::policy::ObjectName;

/// An object as it comes in: who it is, and its text.
#[derive(Debug, Clone)]
pub struct Seen<K> {
    metadata: ObjectMeta,
    pub unread: Unread,
    kind: std::marker::PhantomData<K>,
}

impl<K: Watched> Seen<K> {
    /// `Err`: why it cannot be read.
    pub fn read(&self) -> Result<K::Kept, String> {
        read::<K>(&self.unread.json)
    }
}

impl<K> Seen<K> {
    pub fn name(&self) -> ObjectName {
        let text = |it: &Option<String>| it.as_deref().unwrap_or_default().to_owned();
        ObjectName::new(text(&self.metadata.namespace), text(&self.metadata.name))
    }

    pub fn uid(&self) -> String {
        self.metadata.uid.clone().unwrap_or_default()
    }

    pub fn version(&self) -> u64 {
        self.metadata.resource_version.as_deref().and_then(|it| it.parse().ok()).unwrap_or(0)
    }
}

impl<'de, K: Watched> Deserialize<'de> for Seen<K> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(from)?;
        let metadata = json.metadata();
        Ok(Self { metadata, unread: Unread { json, give: give::<K> }, kind: std::marker::PhantomData })
    }
}

/// What an object says. Reading it takes far longer than receiving it, and waits until nothing newer can be read instead.
#[derive(Debug, Clone)]
pub struct Unread {
    json: Json,
    give: fn(&Json, ObjectName, &mut Receivers) -> Result<(), String>,
}

impl Unread {
    /// In bytes.
    pub fn size(&self) -> usize {
        self.json.text.len()
    }

    /// `Err`: why it cannot be read.
    pub fn give_to(&self, name: ObjectName, receivers: &mut Receivers) -> Result<(), String> {
        (self.give)(&self.json, name, receivers)
    }
}

fn give<K: Watched>(json: &Json, name: ObjectName, receivers: &mut Receivers) -> Result<(), String> {
    K::put(name, read::<K>(json)?, receivers);
    Ok(())
}

fn read<K: Watched>(json: &Json) -> Result<K::Kept, String> {
    let Bounded { value: mut object, is_cut } =
        serde_json::from_str(&json.text).map_err(|e| e.to_string())?;
    if is_cut || json.is_cut {
        return K::read_cut(&mut object);
    }
    K::read(&object).map_err(|e| e.to_string())
}

impl<K: Watched> Resource for Seen<K> {
    type DynamicType = ();
    // Watched in all namespaces; only pods are asked for one by one, by path.
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        K::RESOURCE.name.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        K::RESOURCE.group.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        K::RESOURCE.version.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::RESOURCE.plural.into()
    }

    fn metadata_api() -> bool {
        K::METADATA_ONLY
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
