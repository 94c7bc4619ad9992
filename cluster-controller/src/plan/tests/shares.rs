//! Services that are too much for OVN.

use super::*;

fn tight() -> Settings {
    let services = kube_services::Limits {
        service: kube_services::Served { ports: 4, endpoints: 3 },
        namespace: kube_services::Served { ports: 6, endpoints: 100 },
    };
    Settings { services, ..settings() }
}

fn sized(namespace: &str, name: &str, ports: u16) -> Change {
    let ports = (1..=ports).map(|number| port(&format!("p{number}"), Protocol::Tcp, number)).collect();
    let name = ObjectName::new(namespace, name);
    let service = Service { name: name.clone(), ..service(&["10.96.0.7"], ports) };
    Change::Service(name, Some(service))
}

fn balancers(plan: &Plan) -> Vec<&str> {
    plan.rows().filter(|(key, _)| key.table == Table::LoadBalancer).map(|(key, _)| &*key.id).collect()
}

fn refused(plan: &Plan) -> Vec<String> {
    plan.refused_services().map(|(name, excess)| format!("{name}: {excess}")).collect()
}

#[test]
fn a_service_with_too_many_ports_has_no_load_balancer_and_says_why() {
    let mut plan = Plan::new(tight());
    plan.apply(sized("loud", "big", 5));
    plan.apply(sized("calm", "web", 4));
    assert_eq!(balancers(&plan), ["service/calm/web/tcp"]);
    assert_eq!(refused(&plan), ["loud/big: 5 ports of its addresses, at most 4"]);
    // Smaller, it has one.
    plan.apply(sized("loud", "big", 4));
    assert_eq!(balancers(&plan), ["service/calm/web/tcp", "service/loud/big/tcp"]);
    assert!(refused(&plan).is_empty());
}

#[test]
fn what_is_too_much_together_costs_the_largest_of_the_namespace() {
    let mut plan = Plan::new(tight());
    for (name, ports) in [("a", 3), ("b", 2), ("c", 1)] {
        plan.apply(sized("loud", name, ports));
    }
    plan.apply(sized("calm", "web", 4));
    assert_eq!(balancers(&plan).len(), 4);
    let touched = plan.apply(sized("loud", "d", 2));
    assert!(touched.contains(&Key::new(Table::LoadBalancer, "service/loud/a/tcp")), "{touched:?}");
    assert_eq!(refused(&plan), ["loud/a: 8 ports of Services in its namespace, at most 6"]);
    let before: Vec<String> = balancers(&plan).into_iter().map(str::to_owned).collect();
    assert_eq!(
        before,
        ["service/calm/web/tcp", "service/loud/b/tcp", "service/loud/c/tcp", "service/loud/d/tcp"]
    );
    // Room again.
    plan.apply(Change::Service(ObjectName::new("loud", "d"), None));
    assert!(balancers(&plan).contains(&"service/loud/a/tcp"));
}

#[test]
fn endpoints_count_as_their_slices_come_and_go() {
    let mut plan = Plan::new(tight());
    let ready = |ips: &[&str]| ips.iter().map(|ip| endpoint(ip, true, true, false)).collect::<Vec<_>>();
    let ports = || vec![port("p1", Protocol::Tcp, 8080)];
    plan.apply(web(service(&["10.96.0.7"], vec![port("p1", Protocol::Tcp, 80)])));
    plan.apply(slice("one", ports(), ready(&["10.1.0.1", "10.1.0.2"])));
    assert_eq!(balancers(&plan), ["service/shop/web/tcp"]);
    plan.apply(slice("two", ports(), ready(&["10.1.0.3", "10.1.0.4"])));
    assert_eq!(balancers(&plan), [""; 0]);
    assert_eq!(refused(&plan), ["shop/web: 4 endpoints of its ports, at most 3"]);
    plan.apply(Change::Slice(ObjectName::new("shop", "two"), None));
    assert_eq!(balancers(&plan), ["service/shop/web/tcp"]);
}
