//! An object's metadata, without what nobody reads.
//!
//! kube's own type reads all of it, and fails for dates that the API server takes: a client may write any time into
//! `managedFields`, also one that is in the year 10000 by UTC.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::{Deserialize, Deserializer};

use crate::{Dict, Flag, List, Part, Text, Whole};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: Text,
    namespace: Text,
    uid: Text,
    resource_version: Text,
    generation: Whole,
    creation_timestamp: Text,
    deletion_timestamp: Text,
    labels: Dict<Text>,
    annotations: Dict<Text>,
    owner_references: List<Part<Owner>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Owner {
    api_version: Text,
    kind: Text,
    name: Text,
    uid: Text,
    controller: Flag,
}

fn time(text: &str) -> Option<Time> {
    text.parse().ok().map(Time)
}

fn texts(dict: Dict<Text>) -> Option<std::collections::BTreeMap<String, String>> {
    Some(dict.0.into_iter().map(|(key, value)| (key, value.0)).collect())
        .filter(|it: &std::collections::BTreeMap<_, _>| !it.is_empty())
}

/// For `#[serde(deserialize_with = "lenient_json::metadata")]`, beside `default`.
pub fn metadata<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    let Part(read) = Part::<Metadata>::deserialize(from)?;
    let owner = |Part(it): Part<Owner>| OwnerReference {
        api_version: it.api_version.0,
        kind: it.kind.0,
        name: it.name.0,
        uid: it.uid.0,
        controller: it.controller.0,
        block_owner_deletion: None,
    };
    let owners: Vec<OwnerReference> = read.owner_references.into_iter().map(owner).collect();
    Ok(ObjectMeta {
        name: read.name.some(),
        namespace: read.namespace.some(),
        uid: read.uid.some(),
        resource_version: read.resource_version.some(),
        generation: read.generation.0,
        creation_timestamp: time(&read.creation_timestamp),
        deletion_timestamp: time(&read.deletion_timestamp),
        labels: texts(read.labels),
        annotations: texts(read.annotations),
        owner_references: Some(owners).filter(|it| !it.is_empty()),
        ..ObjectMeta::default()
    })
}
