//! Sets of addresses: what selectors of pods, and blocks, mean. One for all who ask for the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use offload::policy::PrefixSet;

use super::Namespaces;
use super::ids::{ClassId, SetId};
use super::network::{ByNetwork, NetworkId, NetworkIp};
use super::pods::{Class, Member, Pods};
use crate::policy::model::{Labels, NamedPort, Protocol, Selector, find_port};

/// Of which namespaces pods are selected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    Everywhere,
    Namespace(Arc<str>),
    /// By labels: a namespace that we do not know has none that could be asked, so it is not selected.
    Namespaces(Selector),
}

/// What makes two sets the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetKey {
    blocks: BTreeSet<(IpNet, Vec<IpNet>)>,
    pods: BTreeSet<(Scope, Selector)>,
}

impl SetKey {
    pub fn every_pod() -> Self {
        Self { blocks: BTreeSet::new(), pods: [(Scope::Everywhere, Selector::everything())].into() }
    }

    pub fn add_block(&mut self, cidr: IpNet, except: Vec<IpNet>) {
        self.blocks.insert((cidr, except));
    }

    /// Those in the scope of which the selector holds.
    pub fn add_pods(&mut self, scope: Scope, selector: Selector) {
        self.pods.insert((scope, selector));
    }

    fn selects(&self, namespace: &str, its_labels: Option<&Labels>, labels: &Labels) -> bool {
        self.pods.iter().any(|(scope, selector)| {
            let in_scope = match scope {
                Scope::Everywhere => true,
                Scope::Namespace(name) => **name == *namespace,
                Scope::Namespaces(selector) => its_labels.is_some_and(|it| selector.selects(it)),
            };
            in_scope && selector.selects(labels)
        })
    }

    fn asks_namespaces(&self) -> bool {
        self.pods.iter().any(|(scope, _)| matches!(scope, Scope::Namespaces(_)))
    }
}

/// The pods of a network that have such a port, by its number.
type ByNumber = BTreeMap<(NetworkId, u16), PrefixSet>;
type Named = BTreeMap<(Protocol, Arc<str>), ByNumber>;

#[derive(Debug)]
pub struct AddressSet {
    key: Arc<SetKey>,
    blocks: PrefixSet,
    /// Blocks and pods.
    addresses: ByNetwork<PrefixSet>,
    named: Named,
    classes: BTreeSet<ClassId>,
    /// How often it was acquired and not released.
    users: usize,
}

impl AddressSet {
    /// Its pods there, and its blocks, which mean the same everywhere.
    pub fn addresses(&self, network: NetworkId) -> &PrefixSet {
        self.addresses.get(&network).unwrap_or(&self.blocks)
    }

    /// Its pods there that have such a port, by its number.
    pub fn named(
        &self,
        network: NetworkId,
        protocol: Protocol,
        name: &Arc<str>,
    ) -> impl Iterator<Item = (u16, &PrefixSet)> {
        let by_number = self.named.get(&(protocol, name.clone())).into_iter();
        let there = by_number.flat_map(move |it| it.range((network, 0)..=(network, u16::MAX)));
        there.map(|((_, port), set)| (*port, set))
    }

    pub fn add(&mut self, ips: impl Iterator<Item = NetworkIp>, ports: &[NamedPort]) {
        for NetworkIp { network, ip } in ips {
            self.addresses.entry(network).or_insert_with(|| self.blocks.clone()).insert(ip);
            for ((protocol, name), by_number) in &mut self.named {
                if let Some(port) = find_port(ports, name, *protocol) {
                    by_number.entry((network, port)).or_default().insert(ip);
                }
            }
        }
    }

    /// Of a pod that is not in it any more; what another that is has, too, stays. Of its addresses' `holders` all count that
    /// are in the set.
    pub fn drop<'a, I>(&mut self, member: &Member, holders: impl Fn(NetworkIp) -> I)
    where
        I: Iterator<Item = &'a Member>,
    {
        for at in &member.ips {
            let NetworkIp { network, ip } = *at;
            let left = || holders(*at).filter(|it| self.classes.contains(&it.class));
            if left().next().is_none()
                && !self.blocks.contains(ip)
                && let Some(addresses) = self.addresses.get_mut(&network)
            {
                addresses.remove(ip);
            }
            for ((protocol, name), by_number) in &mut self.named {
                let Some(port) = find_port(&member.ports, name, *protocol) else { continue };
                if left().any(|it| find_port(&it.ports, name, *protocol) == Some(port)) {
                    continue;
                }
                if let Some(set) = by_number.get_mut(&(network, port)) {
                    set.remove(ip);
                    if set.is_empty() {
                        by_number.remove(&(network, port));
                    }
                }
            }
        }
    }

    fn fill(&mut self, pods: &Pods) {
        let addresses = |network| {
            let members = self.classes.iter().flat_map(|class| pods.members(*class));
            let there = members.flat_map(|it| &it.ips).filter(move |it| it.network == network);
            there.map(|it| IpNet::from(it.ip)).chain(self.blocks.iter()).collect()
        };
        self.addresses = pods.networks().map(|network| (network, addresses(network))).collect();
    }

    fn resolve(&self, (protocol, name): &(Protocol, Arc<str>), pods: &Pods) -> ByNumber {
        let members = || self.classes.iter().flat_map(|class| pods.members(*class));
        let port_of = |it: &Member| find_port(&it.ports, name, *protocol);
        // To almost all a name is one number: then the pods that have it are the set itself, and a cluster's are not sorted
        // once more.
        let mut ports = members().map(port_of);
        if self.blocks.is_empty()
            && let Some(Some(port)) = ports.next()
            && ports.all(|it| it == Some(port))
        {
            let there = self.addresses.iter().filter(|(_, set)| !set.is_empty());
            return there.map(|(network, set)| ((*network, port), set.clone())).collect();
        }
        let mut by_number: BTreeMap<(NetworkId, u16), Vec<IpAddr>> = BTreeMap::new();
        for member in members() {
            if let Some(port) = port_of(member) {
                for NetworkIp { network, ip } in &member.ips {
                    by_number.entry((*network, port)).or_default().push(*ip);
                }
            }
        }
        by_number.into_iter().map(|(port, ips)| (port, ips.into_iter().collect())).collect()
    }
}

/// By address: neighbours share the way to them in a set's tree.
fn in_order<'a>(classes: &[ClassId], pods: &'a Pods) -> Vec<&'a Member> {
    let mut members: Vec<&Member> = classes.iter().flat_map(|id| pods.members(*id)).collect();
    members.sort_unstable_by(|a, b| a.ips.cmp(&b.ips));
    members
}

#[derive(Debug, Default)]
pub struct AddressSets {
    ids: HashMap<Arc<SetKey>, SetId>,
    by_id: BTreeMap<SetId, AddressSet>,
    next: u32,
}

impl AddressSets {
    pub fn get(&self, id: SetId) -> Option<&AddressSet> {
        self.by_id.get(&id)
    }

    pub fn get_mut(&mut self, id: SetId) -> Option<&mut AddressSet> {
        self.by_id.get_mut(&id)
    }

    /// One more needs it, with these names of ports.
    pub fn acquire(
        &mut self,
        key: SetKey,
        names: &[(Protocol, Arc<str>)],
        pods: &mut Pods,
        namespaces: &Namespaces,
    ) -> SetId {
        let id = self.ids.get(&key).copied().unwrap_or_else(|| self.create(key, pods, namespaces));
        if let Some(set) = self.by_id.get_mut(&id) {
            set.users += 1;
            for name in names {
                if !set.named.contains_key(name) {
                    let resolved = set.resolve(name, pods);
                    set.named.insert(name.clone(), resolved);
                }
            }
        }
        id
    }

    fn create(&mut self, key: SetKey, pods: &mut Pods, namespaces: &Namespaces) -> SetId {
        let id = SetId(self.next);
        self.next += 1;
        let key = Arc::new(key);
        let mut classes = BTreeSet::new();
        for (scope, selector) in &key.pods {
            let mut add = |class: ClassId| {
                if pods.class(class).is_some_and(|it| selector.selects(&it.labels)) {
                    classes.insert(class);
                }
            };
            match scope {
                Scope::Everywhere => pods.classes().for_each(|(class, _)| add(class)),
                Scope::Namespace(name) => pods.classes_of(name).for_each(add),
                Scope::Namespaces(wanted) => {
                    for (name, _) in namespaces.iter().filter(|(_, labels)| wanted.selects(labels)) {
                        pods.classes_of(name).for_each(&mut add);
                    }
                }
            }
        }
        for class in &classes {
            if let Some(class) = pods.class_mut(*class) {
                class.sets.push(id);
            }
        }
        let whole = |(cidr, except): &(IpNet, Vec<IpNet>)| {
            PrefixSet::from(*cidr).difference(&except.iter().copied().collect())
        };
        // All at once: one by one would be a copy for each.
        let blocks = key.blocks.iter().map(whole).flat_map(Vec::<IpNet>::from).collect();
        let mut set = AddressSet {
            key: key.clone(),
            blocks,
            addresses: ByNetwork::new(),
            named: Named::new(),
            classes,
            users: 0,
        };
        set.fill(pods);
        self.ids.insert(key, id);
        self.by_id.insert(id, set);
        id
    }

    pub fn release(&mut self, id: SetId, pods: &mut Pods) {
        let Some(set) = self.by_id.get_mut(&id) else { return };
        set.users -= 1;
        if set.users > 0 {
            return;
        }
        for class in &set.classes {
            if let Some(class) = pods.class_mut(*class) {
                class.sets.retain(|it| *it != id);
            }
        }
        let key = set.key.clone();
        self.ids.remove(&key);
        self.by_id.remove(&id);
    }

    /// A class that is new: the sets that it is in.
    pub fn admit(&mut self, id: ClassId, class: &mut Class, namespaces: &Namespaces) {
        let its_labels = namespaces.get(&class.namespace);
        for (set_id, set) in &mut self.by_id {
            if set.key.selects(&class.namespace, its_labels, &class.labels) {
                set.classes.insert(id);
                class.sets.push(*set_id);
            }
        }
    }

    pub fn expel(&mut self, class: ClassId, sets: &[SetId]) {
        for id in sets {
            if let Some(set) = self.by_id.get_mut(id) {
                set.classes.remove(&class);
            }
        }
    }

    /// A namespace has other labels: asks again about its classes. Returns the sets that changed, and the classes that
    /// came or went.
    pub fn relabel(
        &mut self,
        namespace: &str,
        pods: &mut Pods,
        namespaces: &Namespaces,
    ) -> (BTreeSet<SetId>, BTreeSet<ClassId>) {
        let its_labels = namespaces.get(namespace);
        let classes: Vec<ClassId> = pods.classes_of(namespace).collect();
        let (mut changed, mut moved) = (BTreeSet::new(), BTreeSet::new());
        for (set_id, set) in self.by_id.iter_mut().filter(|(_, set)| set.key.asks_namespaces()) {
            let (mut come, mut gone) = (Vec::new(), Vec::new());
            for id in &classes {
                let Some(class) = pods.class_mut(*id) else { continue };
                let is_in = set.key.selects(namespace, its_labels, &class.labels);
                if is_in == set.classes.contains(id) {
                    continue;
                }
                if is_in {
                    class.sets.push(*set_id);
                    set.classes.insert(*id);
                    come.push(*id);
                } else {
                    class.sets.retain(|it| it != set_id);
                    set.classes.remove(id);
                    gone.push(*id);
                }
            }
            if come.is_empty() && gone.is_empty() {
                continue;
            }
            for it in in_order(&gone, pods) {
                set.drop(it, |ip| pods.sharers(ip));
            }
            for it in in_order(&come, pods) {
                set.add(it.ips.iter().copied(), &it.ports);
            }
            changed.insert(*set_id);
            moved.extend(come.into_iter().chain(gone));
        }
        (changed, moved)
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }
}
