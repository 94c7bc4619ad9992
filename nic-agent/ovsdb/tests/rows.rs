//! The typed rows against the schemas that OVS and OVN ship, read by the `ovsdb` package's schema model and by ours.
//!
//! That package's model has gaps (`mutable` and indexes are wrong or absent, `is_composite` is false for "unlimited"), so
//! only what it gets right is taken from it: names, atoms, scalar, optional, map.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests, too

use std::collections::BTreeMap;
use std::path::PathBuf;

use ovsdb::schema::{Atomic, Kind, Schema};
use ovsdb_session::row::{AtomKind, Shape, Typed};
use ovsdb_session::rows::{northbound, southbound, vswitch};
use ovsdb_session::{DatabaseSchema, Table};

fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/schema").join(file)
}

fn atom(atomic: Atomic) -> AtomKind {
    match atomic {
        Atomic::Boolean => AtomKind::Boolean,
        Atomic::Integer => AtomKind::Integer,
        Atomic::Real => AtomKind::Real,
        Atomic::String => AtomKind::String,
        Atomic::Uuid => AtomKind::Uuid,
    }
}

fn shape(kind: &Kind) -> Shape {
    let key = atom(kind.key().kind());
    match kind.value() {
        Some(value) => Shape::Map(key, atom(value.kind())),
        None if kind.is_scalar() => Shape::Scalar(key),
        None if kind.is_optional() => Shape::Optional(key),
        None => Shape::Set(key),
    }
}

type Shapes = BTreeMap<String, BTreeMap<String, Shape>>;

/// Every column of a schema file, as another implementation reads it.
fn shapes(file: &str) -> Shapes {
    let schema = Schema::from_file(path(file)).unwrap();
    let columns = |table: &ovsdb::schema::Table| {
        table.columns().iter().map(|column| (column.name().to_owned(), shape(column.kind()))).collect()
    };
    schema.tables().iter().map(|table| (table.name().to_owned(), columns(table))).collect()
}

fn check<T: Table + Typed>(shapes: &Shapes) {
    let table = shapes.get(T::NAME).unwrap_or_else(|| panic!("no table {}", T::NAME));
    let named: Vec<&str> = T::SHAPES.iter().map(|(column, _)| *column).collect();
    assert_eq!(named, T::COLUMNS, "{}", T::NAME);
    for (column, shape) in T::SHAPES {
        assert_eq!(table.get(*column), Some(shape), "{}.{column}", T::NAME);
    }
}

#[test]
fn vswitch_rows_fit_the_schema() {
    let shapes = shapes("vswitch.ovsschema");
    check::<vswitch::OpenVSwitch>(&shapes);
    check::<vswitch::Bridge>(&shapes);
    check::<vswitch::Port>(&shapes);
    check::<vswitch::Interface>(&shapes);
}

#[test]
fn southbound_rows_fit_the_schema() {
    let shapes = shapes("ovn-sb.ovsschema");
    check::<southbound::PortBinding>(&shapes);
    check::<southbound::Chassis>(&shapes);
    check::<southbound::Encap>(&shapes);
}

#[test]
fn northbound_rows_fit_the_schema() {
    let shapes = shapes("ovn-nb.ovsschema");
    check::<northbound::NbGlobal>(&shapes);
    check::<northbound::LogicalSwitch>(&shapes);
    check::<northbound::LogicalSwitchPort>(&shapes);
    check::<northbound::LogicalRouter>(&shapes);
    check::<northbound::LogicalRouterPort>(&shapes);
    check::<northbound::LoadBalancer>(&shapes);
    check::<northbound::LoadBalancerGroup>(&shapes);
    check::<northbound::DhcpOptions>(&shapes);
}

#[test]
fn our_schema_model_reads_every_column_as_the_other_does() {
    for (file, name) in [
        ("vswitch.ovsschema", vswitch::DATABASE),
        ("ovn-sb.ovsschema", southbound::DATABASE),
        ("ovn-nb.ovsschema", northbound::DATABASE),
    ] {
        let text = std::fs::read_to_string(path(file)).unwrap();
        let ours: DatabaseSchema = serde_json::from_str(&text).unwrap();
        assert_eq!(ours.name, name);
        let ours: Shapes = ours
            .tables
            .iter()
            .map(|(table, schema)| {
                let columns = schema.columns.iter().map(|(name, column)| (name.clone(), column.ty.shape()));
                (table.clone(), columns.collect())
            })
            .collect();
        assert_eq!(ours, shapes(file), "{file}");
    }
}

#[test]
fn what_the_other_model_gets_wrong_ours_gets_right() {
    let text = std::fs::read_to_string(path("ovn-sb.ovsschema")).unwrap();
    let schema: DatabaseSchema = serde_json::from_str(&text).unwrap();
    let table = &schema.tables["Port_Binding"];
    assert!(table.is_root);
    assert_eq!(table.indexes, [vec!["datapath", "tunnel_key"], vec!["logical_port"]]);
    assert!(table.columns["mac"].ty.is_composite() && table.columns["mac"].mutable);
    assert!(!table.columns["up"].ty.is_composite());
    assert_eq!(table.columns["chassis"].ty.key.ref_table.as_deref(), Some("Chassis"));
    assert!(table.columns["chassis"].ty.key.ref_weak);
}
