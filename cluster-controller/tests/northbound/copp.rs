//! What bounds the packets that pods bring to `ovn-controller`: written, put back, changed, and left out.

use cluster_controller::core::Core;
use cluster_controller::northbound::Key;
use cluster_controller::settings::Settings;
use serde_json::Value;

use super::*;
use crate::common::{run, schema_file, soon, tool};
use crate::northbound_common::settings;

fn with_rate(rate: &str) -> Settings {
    Settings { copp_rate: rate.parse().unwrap(), ..settings() }
}

async fn with_a_node(server: &Server, rate: &str) -> Hand {
    let mut hand = Hand::with(with_rate(rate), server.session().await, rate).await;
    hand.change(&node(1));
    hand.settle().await;
    hand
}

fn count(rows: &[String], beginning: &str) -> usize {
    rows.iter().filter(|row| row.starts_with(beginning)).count()
}

async fn bands(session: &Session) -> usize {
    let select = vec![Op::select("Meter_Band").into()];
    session.transact(DATABASE, select).await.unwrap()[0].rows().len()
}

/// What others did has reached us, and what comes of it is written.
async fn settled(hand: &mut Hand) -> Vec<usize> {
    transact(&hand.session, [Op::comment("a round trip")]).await;
    hand.settle().await
}

#[tokio::test]
async fn bounds_are_put_back_whatever_is_done_to_them() {
    let server = Server::start("ovn-nb", &[]);
    let mut hand = with_a_node(&server, "500").await;
    let written = dump(&hand.session, true).await;
    let meters = count(&written, "Meter name");
    assert_eq!((count(&written, "Copp "), meters), (2, hand.core.plan().count(Table::Meter)));
    assert_eq!(bands(&hand.session).await, meters, "a band is one Meter's");
    for row in &written {
        let says = match row.split(' ').next().unwrap() {
            "Logical_Switch" => "copp: Copp switches;",
            "Logical_Router" => "copp: Copp router;",
            "Meter" => "unit: \"pktps\"; bands: cluster-controller band 500 500;",
            _ => continue,
        };
        assert!(row.contains(says), "{row}");
    }
    let ours = || Condition::includes("external_ids", Datum::map([(OWNER, OWNER_VALUE)]));
    let of = |key: &str| Condition::includes("external_ids", Datum::map([(KEY, key)]));
    let named = NamedUuid::new;
    let reject = || of("switches/reject");
    let update = |table: &str, column: &str, value: Datum| Op::update(table).when(ours()).set(column, value);
    let damages: [(&str, Vec<Op>); 11] = [
        ("other rates", vec![update("Meter_Band", "rate", 1_u32.into()).into()]),
        (
            "no marks on bands",
            vec![update("Meter_Band", "external_ids", Datum::map::<&str, &str>([])).into()],
        ),
        ("another unit", vec![update("Meter", "unit", "kbps".into()).into()]),
        ("another name", vec![Op::update("Meter").when(reject()).set("name", "mine").into()]),
        ("no Meters named", vec![update("Copp", "meters", Datum::map::<&str, &str>([])).into()]),
        ("switch let go", vec![update("Logical_Switch", "copp", Datum::empty_set()).into()]),
        ("router let go", vec![update("Logical_Router", "copp", Datum::empty_set()).into()]),
        ("Meters gone", vec![Op::delete("Meter").when(ours()).into()]),
        ("Copps gone", vec![Op::delete("Copp").when(ours()).into()]),
        (
            "a second band, that lets more pass",
            vec![
                Op::insert("Meter_Band")
                    .named(&named("b"))
                    .set("action", "drop")
                    .set("rate", 9_999_u32)
                    .into(),
                Op::mutate("Meter").when(reject()).with(Mutation::insert("bands", named("b"))).into(),
            ],
        ),
        (
            "another's Copp",
            vec![
                Op::insert("Copp").named(&named("c")).set("name", "theirs").into(),
                Op::update("Logical_Switch").when(ours()).set("copp", named("c")).into(),
            ],
        ),
    ];
    for (what, damage) in damages {
        transact(&server.session().await, damage).await;
        assert_ne!(dump(&hand.session, true).await, written, "{what}: nothing was damaged");
        assert_ne!(settled(&mut hand).await, [] as [usize; 0], "{what}");
        assert_same(&dump(&hand.session, true).await, &written, what);
        assert_eq!(settled(&mut hand).await, [] as [usize; 0], "{what}: a second difference is empty");
        assert_eq!(bands(&hand.session).await, meters, "{what}");
    }
    // One band is a new one, and the Meter's reference to it.
    transact(&hand.session, [Op::delete("Copp").when(Condition::equal("name", "theirs")).into()]).await;
    let mut changed = 0;
    for row in hand.monitor.snapshot().table("Meter") {
        let Some(uuid) = row.1.get("bands").and_then(Datum::as_atom) else { panic!() };
        let band = Condition::equal("_uuid", uuid.clone());
        transact(&hand.session, [Op::update("Meter_Band").when(band).set("burst_size", 7_u32).into()]).await;
        changed += 1;
        assert_eq!(settled(&mut hand).await, [2]);
    }
    assert_eq!(changed, meters);
    // The switches share them: they stay when a switch goes, as the next one's.
    hand.change(&Change::Node("node1.example".into(), None));
    hand.settle().await;
    let rows = dump(&hand.session, true).await;
    assert_eq!(
        [count(&rows, "Logical_Switch "), count(&rows, "Copp "), count(&rows, "Meter ")],
        [0, 2, meters]
    );
}

#[tokio::test]
async fn another_rate_is_in_every_band_and_none_takes_all_of_it_away() {
    let server = Server::start("ovn-nb", &[]);
    let hand = with_a_node(&server, "500").await;
    let first = dump(&hand.session, true).await;
    let faster = with_a_node(&server, "700").await;
    let second = dump(&faster.session, true).await;
    let expected: Vec<String> = first.iter().map(|row| row.replace("band 500 500", "band 700 700")).collect();
    assert_same(&second, &expected, "another rate");
    assert_eq!(bands(&hand.session).await, count(&second, "Meter "));

    let mut none = with_a_node(&server, "0").await;
    let third = dump(&none.session, true).await;
    let rest = |rows: &[String]| -> Vec<String> {
        let rows = rows.iter().filter(|row| !row.starts_with("Meter ") && !row.starts_with("Copp "));
        rows.map(|row| {
            row.replace("copp: Copp switches;", "copp: ;").replace("copp: Copp router;", "copp: ;")
        })
        .collect()
    };
    assert_same(&third, &rest(&second), "no rate");
    assert_eq!(bands(&none.session).await, 0);
    // Then it is somebody else's to bound them.
    transact(
        &none.session,
        [
            Op::insert("Copp").named(&NamedUuid::new("c")).set("name", "theirs").into(),
            Op::update("Logical_Switch").set("copp", NamedUuid::new("c")).into(),
        ],
    )
    .await;
    assert_eq!(settled(&mut none).await, [] as [usize; 0]);
}

/// Whoever takes one of our names: the network is written all the same, and the bounds when the name is free.
#[tokio::test]
async fn a_switch_without_bounds_is_better_than_none() {
    let server = Server::start("ovn-nb", &[]);
    let session = server.session().await;
    transact(&session, [Op::insert("Copp").set("name", "drawbridge.dev/switches").into()]).await;
    let mut hand = with_a_node(&server, "500").await;
    let copp = || Key::new(Table::Copp, "switches");
    let blocked: Vec<Blocked> = hand.core.blocked().map(|(_, why)| why.clone()).collect();
    assert_eq!(blocked, [Blocked::Name("drawbridge.dev/switches".into()), Blocked::Missing(copp())]);
    let rows = dump(&session, true).await;
    assert!(
        rows.iter().any(|row| row.starts_with("Logical_Switch ") && row.contains("copp: ;")),
        "{rows:#?}"
    );
    assert!(rows.iter().any(|row| row.starts_with("Logical_Switch_Port ")));
    transact(&session, [Op::delete("Copp").when(Condition::equal("name", "drawbridge.dev/switches")).into()])
        .await;
    settled(&mut hand).await;
    assert_eq!(hand.core.blocked().count(), 0);
    assert!(dump(&session, true).await.iter().any(|row| row.contains("copp: Copp switches;")));
}

/// OVN's schema as it was before.
fn older(take_away: impl Fn(&mut serde_json::Map<String, Value>)) -> Value {
    let text = std::fs::read_to_string(schema_file("ovn-nb")).unwrap();
    let mut schema: Value = serde_json::from_str(&text).unwrap();
    schema.as_object_mut().unwrap().remove("cksum");
    schema["version"] = "7.10.0".into();
    take_away(schema["tables"].as_object_mut().unwrap());
    schema
}

fn without_column(tables: &mut serde_json::Map<String, Value>, table: &str, column: &str) {
    tables[table]["columns"].as_object_mut().unwrap().remove(column).unwrap();
}

#[tokio::test]
async fn an_older_ovn_gets_all_else_and_the_bounds_after_its_update() {
    let current = Server::start("ovn-nb", &[]);
    let whole = dump(&with_a_node(&current, "500").await.session, true).await;
    let without_table = older(|tables| {
        tables.remove("Copp").unwrap();
        without_column(tables, "Logical_Switch", "copp");
        without_column(tables, "Logical_Router", "copp");
    });
    let without_router_column = older(|tables| without_column(tables, "Logical_Router", "copp"));
    let without_marks = older(|tables| without_column(tables, "Copp", "external_ids"));
    for schema in [without_table, without_router_column, without_marks] {
        let file = tempfile::Builder::new().suffix(".ovsschema").tempfile().unwrap();
        std::fs::write(file.path(), schema.to_string()).unwrap();
        let mut server = Server::start(file.path().to_str().unwrap(), &[]);
        let mut hand = with_a_node(&server, "500").await;
        let lacks = |core: &Core| core.observed().lacks_copp();
        assert!(lacks(&hand.core) && hand.core.blocked().count() == 0);
        let keys: BTreeSet<&Key> = hand.core.observed().keys().collect();
        let rows = hand.core.plan().rows().map(|(key, _)| key);
        let wanted: BTreeSet<&Key> =
            rows.filter(|key| !matches!(key.table, Table::Copp | Table::Meter)).collect();
        assert_eq!(keys, wanted);
        assert_eq!(settled(&mut hand).await, [] as [usize; 0]);

        server.kill();
        run(tool("ovsdb-tool").arg("convert").arg(server.path("db")).arg(schema_file("ovn-nb")));
        server.spawn();
        let mut snapshots = hand.monitor.watch();
        soon("the update", snapshots.wait_for(|it| it.connected && it.missing.is_empty())).await.unwrap();
        hand.settle().await;
        assert!(!lacks(&hand.core));
        assert_same(&dump(&hand.session, true).await, &whole, "after the update");
    }
}
