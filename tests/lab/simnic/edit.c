// SPDX-License-Identifier: GPL-2.0
/* What rules, and connections with translation, do to a frame. skb->data is at the network header. */
#include "simnic.h"
#include <linux/if_vlan.h>
#include <linux/tcp.h>
#include <linux/icmpv6.h>
#include <net/checksum.h>

#define HEADERS 120                          /* how far an edit may reach: the longest IPv4 and TCP headers */

static __sum16 *l4_check(u8 *th, int room, const struct match *k)
{
	switch (k->basic.ip_proto) {
	case IPPROTO_TCP: return room >= sizeof(struct tcphdr) ? &((struct tcphdr *)th)->check : NULL;
	case IPPROTO_UDP:                    /* 0: it has none */
		return room >= sizeof(struct udphdr) && ((struct udphdr *)th)->check ? &((struct udphdr *)th)->check : NULL;
	case IPPROTO_ICMPV6: return room >= sizeof(struct icmp6hdr) ? &((struct icmp6hdr *)th)->icmp6_cksum : NULL;
	default: return NULL;
	}
}

static bool writable(struct sk_buff *skb)
{
	int err;

	skb_push(skb, skb->mac_len);
	err = skb_ensure_writable(skb, min_t(u32, skb->len, skb->mac_len + HEADERS));
	skb_pull(skb, skb->mac_len);
	return !err;
}

/* One 32-bit word of a header, with the checksums that cover it. A frame that ends before the word is left alone. */
void mangle(struct sk_buff *skb, const struct match *k, const struct flow_action_entry *a)
{
	int l4 = k->control.thoff, at = a->mangle.offset, where;
	bool ip4 = a->mangle.htype == FLOW_ACT_MANGLE_HDR_TYPE_IP4, ip6 = a->mangle.htype == FLOW_ACT_MANGLE_HDR_TYPE_IP6;
	bool eth = a->mangle.htype == FLOW_ACT_MANGLE_HDR_TYPE_ETH, first = !(k->control.flags & FLOW_DIS_IS_FRAGMENT) ||
		   k->control.flags & FLOW_DIS_FIRST_FRAG;
	__be32 old, new, *word;
	__sum16 *sum = NULL;

	if (!ip4 && !ip6 && !eth && (!l4 || !first))
		return;
	where = eth ? at - (int)skb->mac_len : ip4 || ip6 ? at : l4 + at;
	if (where + (int)sizeof(*word) > (int)min_t(u32, skb->len, HEADERS) || !writable(skb))
		return;
	word = (void *)(skb->data + where);
	old = get_unaligned(word);
	new = (__force __be32)(((__force u32)old & a->mangle.mask) ^ a->mangle.val);
	if (old == new)
		return;
	put_unaligned(new, word);
	skb_clear_hash(skb);
	if (eth)
		return;
	if (l4 && first)
		sum = l4_check(skb->data + l4, (int)skb_headlen(skb) - l4, k);
	if (ip4) {
		csum_replace4(&ip_hdr(skb)->check, old, new);
		if (k->basic.ip_proto == IPPROTO_ICMPV6 || at < offsetof(struct iphdr, saddr))
			sum = NULL;
	} else if (ip6 && at < offsetof(struct ipv6hdr, saddr)) {
		sum = NULL;
	}
	if (!sum)
		return;
	inet_proto_csum_replace4(sum, skb, old, new, ip4 || ip6);
	if (k->basic.ip_proto == IPPROTO_UDP && skb->ip_summed != CHECKSUM_PARTIAL && !*sum)
		*sum = CSUM_MANGLED_0;
}

int vlan_edit(struct sk_buff *skb, const struct flow_action_entry *a)
{
	u16 tci = a->vlan.vid | a->vlan.prio << VLAN_PRIO_SHIFT;
	int err = 0;

	if (a->id == FLOW_ACTION_VLAN_MANGLE) {
		if (skb_vlan_tag_present(skb)) /* the outer tag is always there: exec.c takes it out of the frame */
			__vlan_hwaccel_put_tag(skb, a->vlan.proto, tci);
		return 0;
	}
	skb_push_rcsum(skb, skb->mac_len);
	if (a->id == FLOW_ACTION_VLAN_POP)
		err = skb_vlan_pop(skb);
	else
		err = skb_vlan_push(skb, a->vlan.proto, tci);
	skb_pull_rcsum(skb, skb->mac_len);
	skb_reset_network_header(skb);
	return err;
}
