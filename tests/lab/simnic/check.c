// SPDX-License-Identifier: GPL-2.0
/* What of a rule is refused, in mlx5's order and words (drivers/net/ethernet/mellanox/mlx5/core/en_tc.c and en/tc/). */
#include "simnic.h"
#include <linux/tc_act/tc_csum.h>

/* mlx5e_flower_parse_meta() */
static int check_meta(struct bound *b, const struct flow_rule *r, struct netlink_ext_ack *ea)
{
	struct flow_match_meta m;

	if (!flow_rule_match_key(r, FLOW_DISSECTOR_KEY_META))
		return 0;
	flow_rule_match_meta(r, &m);
	if (m.mask->l2_miss)
		return refuse(b->esw->nic, ea, F_L2_MISS);
	if (!m.mask->ingress_ifindex)
		return 0;
	if (m.mask->ingress_ifindex != (int)0xffffffff)
		return refuse(b->esw->nic, ea, F_IFINDEX_MASK);
	if (m.key->ingress_ifindex != b->dev->ifindex)
		return refuse(b->esw->nic, ea, F_IFINDEX);
	return 0;
}

/* __parse_cls_flower() */
static int check_headers(struct nic *nic, const struct flow_rule *r, struct netlink_ext_ack *ea)
{
	u8 proto = 0;

	if (flow_rule_match_key(r, FLOW_DISSECTOR_KEY_CONTROL)) {
		struct flow_match_control m;

		flow_rule_match_control(r, &m);
		if (!flow_rule_is_supp_control_flags(FLOW_DIS_IS_FRAGMENT, m.mask->flags, ea))
			return refuse(nic, ea, F_CONTROL);
	}
	if (flow_rule_match_key(r, FLOW_DISSECTOR_KEY_BASIC)) {
		struct flow_match_basic m;

		flow_rule_match_basic(r, &m);
		proto = m.key->ip_proto;
	}
	if (flow_rule_match_key(r, FLOW_DISSECTOR_KEY_PORTS) && proto != IPPROTO_TCP && proto != IPPROTO_UDP)
		return refuse(nic, ea, F_L4);
	if (flow_rule_match_key(r, FLOW_DISSECTOR_KEY_ICMP) && proto != IPPROTO_ICMP && proto != IPPROTO_ICMPV6)
		return refuse(nic, ea, F_ICMP);
	if (flow_rule_match_key(r, FLOW_DISSECTOR_KEY_CT)) {
		struct flow_match_ct m;

		flow_rule_match_ct(r, &m);
		if (m.key->ct_state & m.mask->ct_state & TCA_FLOWER_KEY_CT_FLAGS_RELATED)
			return refuse(nic, ea, F_CT_REL);
		if (m.key->ct_state & m.mask->ct_state & TCA_FLOWER_KEY_CT_FLAGS_INVALID)
			return refuse(nic, ea, F_CT_INV);
	}
	return 0;
}

/* mlx5e_tc_tun_parse_geneve_options(): one option, of one word of data that is not 0 */
static int check_options(struct nic *nic, const struct flow_rule *r, struct netlink_ext_ack *ea)
{
	const struct geneve_opt *key, *mask;
	struct flow_match_enc_opts m;

	if (!flow_rule_match_key(r, FLOW_DISSECTOR_KEY_ENC_OPTS))
		return 0;
	flow_rule_match_enc_opts(r, &m);
	if (!memchr_inv(m.mask->data, 0, sizeof(m.mask->data)))
		return 0;
	if (m.key->dst_opt_type != IP_TUNNEL_GENEVE_OPT_BIT)
		return refuse(nic, ea, F_OPT_TYPE);
	if (m.key->len > sizeof(*key) + 4)
		return refuse(nic, ea, F_OPTS_LEN);
	key = (void *)m.key->data;
	mask = (void *)m.mask->data;
	if (!mask->opt_class && !mask->type && !memchr_inv(mask->opt_data, 0, mask->length * 4))
		return 0;
	if (key->length > 1)
		return refuse(nic, ea, F_OPT_LEN);
	if (!memchr_inv(key->opt_data, 0, key->length * 4))
		return refuse(nic, ea, F_OPT_ZERO);
	return 0;
}

/* parse_tunnel_attr(): the rules of a tunnel device */
static int check_tunnel(struct bound *b, const struct flow_rule *r, struct netlink_ext_ack *ea)
{
	struct nic *nic = b->esw->nic;
	bool geneve = netif_is_geneve(b->dev);
	struct flow_match_ports m;

	if (!flow_rule_match_key(r, FLOW_DISSECTOR_KEY_ENC_PORTS))
		return refuse(nic, ea, F_ENC_NONE);
	flow_rule_match_enc_ports(r, &m);
	if (m.mask->dst != htons(0xffff))
		return refuse(nic, ea, F_ENC_MASK);
	if (!tunnel_port_known(b->esw, geneve, m.key->dst))
		return refuse(nic, ea, geneve ? F_ENC_GENEVE : F_ENC_VXLAN);
	if (!enc_flags_of(nic) && flow_rule_match_key(r, FLOW_DISSECTOR_KEY_ENC_CONTROL)) {
		struct flow_match_control c;

		flow_rule_match_enc_control(r, &c);
		if (flow_rule_has_enc_control_flags(c.mask->flags, ea))
			return refuse(nic, ea, F_ENC_FLAGS);
	}
	return geneve ? check_options(nic, r, ea) : 0;
}

/* en_tc.c, fields[]: what can be rewritten, by the 32-bit word that act_pedit gives */
static int check_mangle(struct nic *nic, const struct flow_rule *r, const struct flow_action_entry *a,
			struct netlink_ext_ack *ea)
{
	u32 at = a->mangle.offset, bits = ntohl((__force __be32)~a->mangle.mask), can = 0;
	struct flow_match_basic m = {};

	switch (a->mangle.htype) {
	case FLOW_ACT_MANGLE_HDR_TYPE_ETH:   /* MACs and ethertype */
		can = at <= 8 ? ~0 : at == 12 ? 0xffff0000 : 0;
		break;
	case FLOW_ACT_MANGLE_HDR_TYPE_IP4:   /* dscp, ttl, addresses */
		can = at == 0 ? 0x00fc0000 : at == 8 ? 0xff000000 : at == 12 || at == 16 ? ~0 : 0;
		break;
	case FLOW_ACT_MANGLE_HDR_TYPE_IP6:   /* dscp, hop limit, addresses */
		can = at == 0 ? 0x0fc00000 : at == 4 ? 0xff : at >= 8 && at <= 36 ? ~0 : 0;
		break;
	case FLOW_ACT_MANGLE_HDR_TYPE_TCP:   /* ports, flags */
		can = at == 0 ? ~0 : at == 12 ? 0x00ff0000 : 0;
		break;
	case FLOW_ACT_MANGLE_HDR_TYPE_UDP:
		can = at == 0 ? ~0 : 0;
		break;
	default:
		break;
	}
	if (at % 4 || bits & ~can)
		return refuse(nic, ea, F_MANGLE_FIELD);
	if (a->mangle.htype != FLOW_ACT_MANGLE_HDR_TYPE_TCP && a->mangle.htype != FLOW_ACT_MANGLE_HDR_TYPE_UDP)
		return 0;
	if (flow_rule_match_key(r, FLOW_DISSECTOR_KEY_BASIC))
		flow_rule_match_basic(r, &m);
	if (!m.key || (m.key->ip_proto != IPPROTO_TCP && m.key->ip_proto != IPPROTO_UDP))
		return refuse(nic, ea, F_MANGLE_L4);
	return 0;
}

static int check_vlan_mangle(struct nic *nic, const struct flow_rule *r, const struct flow_action_entry *a,
			     struct netlink_ext_ack *ea)
{
	struct flow_match_vlan m;

	if (!flow_rule_match_key(r, FLOW_DISSECTOR_KEY_VLAN))
		return refuse(nic, ea, F_VLAN_MATCH);
	flow_rule_match_vlan(r, &m);
	if (!m.mask->vlan_id && !m.mask->vlan_priority && !m.mask->vlan_tpid)
		return refuse(nic, ea, F_VLAN_MATCH);
	if (a->vlan.prio != (m.key->vlan_priority & m.mask->vlan_priority))
		return refuse(nic, ea, F_VLAN_PRIO);
	return 0;
}

static bool police_end(enum flow_action_id id)
{
	return id == FLOW_ACTION_PIPE || id == FLOW_ACTION_ACCEPT || id == FLOW_ACTION_JUMP || id == FLOW_ACTION_DROP;
}

static int check_police(struct nic *nic, const struct flow_action_entry *a, struct netlink_ext_ack *ea)
{
	if (!police_end(a->police.exceed.act_id) || !police_end(a->police.notexceed.act_id))
		return refuse(nic, ea, F_POLICE_ACT);
	if (a->police.peakrate_bytes_ps || a->police.avrate || a->police.overhead)
		return refuse(nic, ea, F_POLICE_PEAK);
	if (!a->police.rate_bytes_ps && !a->police.rate_pkt_ps && !a->police.mtu)
		return refuse(nic, ea, F_POLICE_RATE);
	return 0;
}

/* en/tc/act/mirred.c */
static int check_output(struct bound *b, const struct flow_rule *r, int at, bool encap, struct netlink_ext_ack *ea)
{
	const struct flow_action_entry *a = &r->action.entries[at];
	struct nic *nic = b->esw->nic;
	struct port *p;
	int i, n = 0;

	for (i = 0; i < at; i++) {
		if (!sends(&r->action.entries[i]))
			continue;
		if (r->action.entries[i].dev == a->dev)
			return refuse(nic, ea, F_SAME_OUT);
		n++;
	}
	if (n >= MAX_OUTPUTS)
		return refuse(nic, ea, F_OUTPUTS);
	if (!a->dev)
		return refuse(nic, ea, F_OTHER_SWITCH);
	if (!is_port(a->dev))
		return is_tunnel(a->dev) && encap ? 0 : refuse(nic, ea, F_OTHER_SWITCH);
	p = netdev_priv(a->dev);
	if (p->esw != b->esw || !is_rep(p))
		return refuse(nic, ea, F_OTHER_SWITCH);
	if (p == b->port && p->kind == VF_REP)
		return refuse(nic, ea, F_SAME_VF);
	return 0;
}

static int check_actions(struct bound *b, struct flow_cls_offload *f, const struct flow_rule *r)
{
	struct netlink_ext_ack *ea = f->common.extack;
	bool encap = false, decap = false, pedit = false, csum = false, drop = false, forward = false, jump = false;
	struct nic *nic = b->esw->nic;
	const struct flow_action_entry *a;
	int i, err, vlans[2] = {};

	if (!flow_action_has_entries(&r->action))
		return refuse(nic, ea, F_NO_ACTION);
	if (!flow_action_hw_stats_check(&r->action, NULL, FLOW_ACTION_HW_STATS_DELAYED_BIT))
		return refuse(nic, ea, F_HW_STATS);
	flow_action_for_each(i, a, &r->action) {
		err = 0;
		if (a->id >= 64 || !(BIT_ULL(a->id) & acts_of(nic)))
			return refuse(nic, ea, F_ACTION);
		switch (a->id) {
		case FLOW_ACTION_DROP: drop = true; break;
		case FLOW_ACTION_ACCEPT:
		case FLOW_ACTION_TRAP: forward = true; break;
		case FLOW_ACTION_GOTO:
			jump = true;
			if (a->chain_index > max_chain_of(nic))
				err = refuse(nic, ea, F_GOTO_CHAIN);
			break;
		case FLOW_ACTION_REDIRECT:
		case FLOW_ACTION_MIRRED:
			forward = true;
			err = check_output(b, r, i, encap, ea);
			break;
		case FLOW_ACTION_TUNNEL_ENCAP:
			encap = true;
			if (!a->tunnel)
				err = refuse(nic, ea, F_TUNNEL_NONE);
			break;
		case FLOW_ACTION_TUNNEL_DECAP: decap = true; break;
		case FLOW_ACTION_VLAN_PUSH:
		case FLOW_ACTION_VLAN_POP:
			if (++vlans[a->id == FLOW_ACTION_VLAN_POP] > MAX_VLANS)
				err = refuse(nic, ea, F_VLANS);
			break;
		case FLOW_ACTION_VLAN_MANGLE:
			pedit = true;
			err = check_vlan_mangle(nic, r, a, ea);
			break;
		case FLOW_ACTION_MANGLE:
			pedit = true;
			err = check_mangle(nic, r, a, ea);
			break;
		case FLOW_ACTION_CSUM:
			csum = true;
			if (a->csum_flags & ~(TCA_CSUM_UPDATE_FLAG_IPV4HDR | TCA_CSUM_UPDATE_FLAG_TCP | TCA_CSUM_UPDATE_FLAG_UDP))
				err = refuse(nic, ea, F_CSUM_HEADER);
			else if (!pedit)
				err = refuse(nic, ea, F_CSUM_ALONE);
			break;
		case FLOW_ACTION_POLICE: err = check_police(nic, a, ea); break;
		default: break;
		}
		if (err)
			return err;
	}
	if (jump && decap)
		return refuse(nic, ea, F_GOTO_DECAP);
	if (jump && encap)
		return refuse(nic, ea, F_GOTO_ENCAP);
	if (!drop && !forward && !jump)
		return refuse(nic, ea, F_NO_END);
	if (drop && forward)
		return refuse(nic, ea, F_DROP_FORWARD);
	if (drop && pedit)
		return refuse(nic, ea, F_DROP_MANGLE);
	return 0;
}

int check(struct bound *b, struct flow_cls_offload *f)
{
	struct netlink_ext_ack *ea = f->common.extack;
	struct flow_rule *r = flow_cls_offload_flow_rule(f);
	struct nic *nic = b->esw->nic;
	int err;

	if (r->match.dissector->used_keys & ~keys_of(nic))
		return refuse(nic, ea, F_KEY);
	if (f->common.chain_index > max_chain_of(nic))
		return refuse(nic, ea, F_CHAIN);
	err = b->port ? 0 : check_tunnel(b, r, ea);
	return err ?: check_meta(b, r, ea) ?: check_headers(nic, r, ea) ?: check_actions(b, f, r);
}
