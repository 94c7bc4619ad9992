// SPDX-License-Identifier: GPL-2.0
/* What a frame looks like to a rule, and what a rule wants a frame to look like: the kernel's own flow dissector. */
#include "simnic.h"

#define FIELD(id, member) { FLOW_DISSECTOR_KEY_##id, offsetof(struct match, member), sizeof_field(struct match, member) }
static const struct { enum flow_dissector_key_id id; u16 at, size; } fields[] = { /* CONTROL and ENC_CONTROL first */
	FIELD(CONTROL, control), FIELD(ENC_CONTROL, enc_control), FIELD(META, meta), FIELD(BASIC, basic),
	FIELD(ETH_ADDRS, eth), FIELD(VLAN, vlan), FIELD(CVLAN, cvlan), FIELD(IPV4_ADDRS, ipv4), FIELD(IPV6_ADDRS, ipv6),
	FIELD(PORTS, ports), FIELD(ICMP, icmp), FIELD(TCP, tcp), FIELD(IP, ip), FIELD(CT, ct), FIELD(ENC_KEYID, enc_keyid),
	FIELD(ENC_IPV4_ADDRS, enc_ipv4), FIELD(ENC_IPV6_ADDRS, enc_ipv6), FIELD(ENC_PORTS, enc_ports),
	FIELD(ENC_IP, enc_ip), FIELD(ENC_OPTS, enc_opts),
};
static struct flow_dissector dissector;

void key_init(void)
{
	struct flow_dissector_key k[ARRAY_SIZE(fields)];
	int i, n = 0;

	for (i = 0; i < ARRAY_SIZE(fields); i++)
		if (fields[i].id != FLOW_DISSECTOR_KEY_META && fields[i].id != FLOW_DISSECTOR_KEY_CT)
			k[n++] = (struct flow_dissector_key){ fields[i].id, fields[i].at };
	skb_flow_dissector_init(&dissector, k, n);
	tc_skb_ext_tc_enable();              /* software must go on in the chain, at the action, that the eSwitch got to */
}

/* flower keeps both kinds of address in one place and claims both keys */
static bool other_family(enum flow_dissector_key_id id, const struct match *key)
{
	switch (id) {
	case FLOW_DISSECTOR_KEY_IPV4_ADDRS:
	case FLOW_DISSECTOR_KEY_IPV6_ADDRS: return key->control.addr_type != id;
	case FLOW_DISSECTOR_KEY_ENC_IPV4_ADDRS: return key->enc_control.addr_type != FLOW_DISSECTOR_KEY_IPV4_ADDRS;
	case FLOW_DISSECTOR_KEY_ENC_IPV6_ADDRS: return key->enc_control.addr_type != FLOW_DISSECTOR_KEY_IPV6_ADDRS;
	default: return false;
	}
}

void key_copy(const struct flow_rule *r, struct match *key, struct match *mask)
{
	const struct flow_dissector *d = r->match.dissector;
	int i;

	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		if (!dissector_uses_key(d, fields[i].id) || other_family(fields[i].id, key))
			continue;
		memcpy((u8 *)key + fields[i].at, (u8 *)r->match.key + d->offset[fields[i].id], fields[i].size);
		memcpy((u8 *)mask + fields[i].at, (u8 *)r->match.mask + d->offset[fields[i].id], fields[i].size);
	}
	mask->control.thoff = 0;
	/* an ethertype without a VLAN means untagged frames (mlx5: cvlan_tag must be 0) */
	if (mask->basic.n_proto && !dissector_uses_key(d, FLOW_DISSECTOR_KEY_VLAN))
		mask->vlan.vlan_tpid = htons(0xffff);
}

void dissect(struct match *k, struct sk_buff *skb, const struct flow_dissector_key_ct *ct)
{
	memset(k, 0, sizeof(*k));
	k->meta.ingress_ifindex = skb->dev->ifindex;
	k->basic.n_proto = skb_protocol(skb, false);
	skb_flow_dissect_tunnel_info(skb, &dissector, k);
	skb_flow_dissect(skb, &dissector, k, FLOW_DISSECTOR_F_STOP_BEFORE_ENCAP);
	k->ct = *ct;
}
