// SPDX-License-Identifier: GPL-2.0
/* Flower rules: taken, dropped, told of. TC calls without rtnl, and asks for what it is about to drop. */
#include "simnic.h"
#include <net/dst_metadata.h>

const struct rhashtable_params rule_params = {
	.key_len = sizeof(unsigned long), .key_offset = offsetof(struct rule, cookie),
	.head_offset = offsetof(struct rule, node), .automatic_shrinking = true,
};

/* The connections' tables go with the rule, not after it: act_ct expects no callback of ours once its action is gone. */
static void put_tables(struct rule *r)
{
	u32 i;

	for (i = 0; i < r->nact; i++)
		if (r->ct[i])
			ct_table_put(r->ct[i]);
	kfree(r->ct);
	r->ct = NULL;
}

static void rule_free_rcu(struct rcu_head *rcu)
{
	struct rule *r = container_of(rcu, struct rule, rcu);

	if (r->encap)
		dst_release(&r->encap->dst);
	kfree(r->meter);
	kfree(r);
}

void rule_free(struct rule *r)
{
	put_tables(r);
	call_rcu(&r->rcu, rule_free_rcu);
}

static struct metadata_dst *encap_new(const struct ip_tunnel_info *t)
{
	struct metadata_dst *dst = metadata_dst_alloc(t->options_len, METADATA_IP_TUNNEL, GFP_KERNEL);

	if (!dst)
		return NULL;
	memcpy(&dst->u.tun_info, t, sizeof(*t) + t->options_len);
	dst->u.tun_info.mode |= IP_TUNNEL_INFO_TX;
#ifdef CONFIG_DST_CACHE
	memset(&dst->u.tun_info.dst_cache, 0, sizeof(dst->u.tun_info.dst_cache)); /* the original's is its own */
#endif
	return dst;
}

static struct rule *rule_new(struct bound *b, struct flow_cls_offload *f)
{
	struct flow_rule *fr = flow_cls_offload_flow_rule(f);
	u32 i, n = fr->action.num_entries;
	struct rule *r = kzalloc(struct_size(r, act, n), GFP_KERNEL);
	struct flow_action_entry *a;

	if (!r)
		return NULL;
	r->ct = kcalloc(n, sizeof(*r->ct), GFP_KERNEL);
	if (!r->ct) {
		kfree(r);
		return NULL;
	}
	r->nact = n;
	r->cookie = f->cookie;
	r->chain = f->common.chain_index;
	r->prio = f->common.prio;
	r->keys = fr->match.dissector->used_keys;
	r->used = jiffies;
	key_copy(fr, &r->key, &r->mask);
	memcpy(r->act, fr->action.entries, n * sizeof(*r->act));
	for (i = 0; i < n; i++) {
		a = &r->act[i];
		a->user_cookie = NULL;       /* not ours to keep */
		if (a->id == FLOW_ACTION_CT && !(a->ct.action & TCA_CT_ACT_CLEAR)) {
			r->ct[i] = ct_table_get(b->esw, a->ct.flow_table, a->ct.zone);
			a->ct.flow_table = NULL;
			if (!r->ct[i])
				goto err;
		}
		if (a->id == FLOW_ACTION_TUNNEL_ENCAP) {
			if (!r->encap)
				r->encap = encap_new(a->tunnel);
			a->tunnel = NULL;
			if (!r->encap)
				goto err;
		}
		if (a->id == FLOW_ACTION_POLICE && !r->meter) {
			r->meter = meters_new(r->act, n);
			if (!r->meter)
				goto err;
		}
	}
	return r;
err:
	rule_free(r);
	return NULL;
}

static int rule_add(struct bound *b, struct flow_cls_offload *f)
{
	struct netlink_ext_ack *ea = f->common.extack;
	struct nic *nic = b->esw->nic;
	struct rule *r;
	int err;

	err = injected(nic, ea) ?: check(b, f);
	if (err)
		return err;
	if (atomic_inc_return(&nic->nrules) > max_rules_of(nic)) {
		atomic_dec(&nic->nrules);
		return refuse(nic, ea, F_FULL);
	}
	r = rule_new(b, f);
	err = r ? rhashtable_insert_fast(&b->rules, &r->node, rule_params) : -ENOMEM;
	if (!err) {
		err = table_insert(b, r);
		if (err)
			rhashtable_remove_fast(&b->rules, &r->node, rule_params);
		if (err == -ENODEV)
			refuse(nic, ea, F_DEVICE_GONE);
	}
	if (err) {
		if (r)
			rule_free(r);
		atomic_dec(&nic->nrules);
	}
	return err;
}

static int rule_del(struct bound *b, struct flow_cls_offload *f)
{
	struct rule *r;
	int err = -ENOENT;

	rcu_read_lock();
	r = rhashtable_lookup(&b->rules, &f->cookie, rule_params);
	if (r)                               /* who removes it, frees it */
		err = rhashtable_remove_fast(&b->rules, &r->node, rule_params);
	rcu_read_unlock();
	if (err)
		return err;
	table_remove(b, r);
	atomic_dec(&b->esw->nic->nrules);
	rule_free(r);
	return 0;
}

static int rule_stats(struct bound *b, struct flow_cls_offload *f)
{
	u64 pkts, bytes, drops;
	struct rule *r;

	rcu_read_lock();
	r = rhashtable_lookup(&b->rules, &f->cookie, rule_params);
	if (r) {
		spin_lock_bh(&b->lock);      /* two may ask at once: each frame is told once */
		pkts = atomic64_read(&r->pkts);
		bytes = atomic64_read(&r->bytes);
		drops = atomic64_read(&r->drops);
		flow_stats_update(&f->stats, bytes - r->bytes_told, pkts - r->pkts_told, drops - r->drops_told,
				  READ_ONCE(r->used), FLOW_ACTION_HW_STATS_DELAYED);
		r->pkts_told = pkts;
		r->bytes_told = bytes;
		r->drops_told = drops;
		spin_unlock_bh(&b->lock);
	}
	rcu_read_unlock();
	return r ? 0 : -ENOENT;
}

int rule_command(struct bound *b, struct flow_cls_offload *f)
{
	switch (f->command) {
	case FLOW_CLS_REPLACE: return rule_add(b, f);
	case FLOW_CLS_DESTROY: return rule_del(b, f);
	case FLOW_CLS_STATS: return rule_stats(b, f);
	default: return -EOPNOTSUPP;
	}
}
