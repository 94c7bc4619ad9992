// SPDX-License-Identifier: GPL-2.0
/* Rules by chain and priority. Written under the bound's lock, read under RCU. */
#include "simnic.h"

struct chain {
	struct hlist_node node;
	struct rcu_head rcu;
	u32 index;
	struct list_head prios;
};

struct prio {
	struct list_head list;
	struct rcu_head rcu;
	u32 prio;
	struct list_head rules;
};

static struct chain *chain_find(struct bound *b, u32 index)
{
	struct chain *c;

	hlist_for_each_entry_rcu(c, &b->chains[index % ARRAY_SIZE(b->chains)], node, lockdep_is_held(&b->lock))
		if (c->index == index)
			return c;
	return NULL;
}

/* Whether all devices that a rule sends to are to stay; from here on table_forget_device() sees the rule. */
static bool outputs_stay(const struct rule *r)
{
	u32 i;

	for (i = 0; i < r->nact; i++)
		if (sends(&r->act[i]) && READ_ONCE(r->act[i].dev->reg_state) != NETREG_REGISTERED)
			return false;
	return true;
}

int table_insert(struct bound *b, struct rule *r)
{
	struct chain *c, *new_chain = kzalloc(sizeof(*new_chain), GFP_KERNEL);
	struct prio *p, *at = NULL, *new_prio = kzalloc(sizeof(*new_prio), GFP_KERNEL);
	int err = -ENOMEM;

	if (!new_chain || !new_prio)
		goto out;
	spin_lock_bh(&b->lock);
	err = outputs_stay(r) ? 0 : -ENODEV;
	if (err)
		goto unlock;
	c = chain_find(b, r->chain);
	if (!c) {
		c = new_chain;
		new_chain = NULL;
		c->index = r->chain;
		INIT_LIST_HEAD(&c->prios);
		hlist_add_head_rcu(&c->node, &b->chains[r->chain % ARRAY_SIZE(b->chains)]);
	}
	list_for_each_entry(p, &c->prios, list)
		if (p->prio >= r->prio) {
			at = p;
			break;
		}
	if (!at || at->prio != r->prio) {
		p = new_prio;
		new_prio = NULL;
		p->prio = r->prio;
		INIT_LIST_HEAD(&p->rules);
		list_add_tail_rcu(&p->list, at ? &at->list : &c->prios);
		at = p;
	}
	list_add_tail_rcu(&r->same_prio, &at->rules);
unlock:
	spin_unlock_bh(&b->lock);
out:
	kfree(new_chain);
	kfree(new_prio);
	return err;
}

void table_remove(struct bound *b, struct rule *r)
{
	struct chain *c;
	struct prio *p;

	spin_lock_bh(&b->lock);
	list_del_rcu(&r->same_prio);
	c = chain_find(b, r->chain);
	list_for_each_entry(p, &c->prios, list)
		if (p->prio == r->prio && list_empty(&p->rules)) {
			list_del_rcu(&p->list);
			kfree_rcu(p, rcu);
			break;
		}
	if (list_empty(&c->prios)) {
		hlist_del_rcu(&c->node);
		kfree_rcu(c, rcu);
	}
	spin_unlock_bh(&b->lock);
}

void table_forget_device(struct bound *b, const struct net_device *dev)
{
	struct chain *c;
	struct prio *p;
	struct rule *r;
	u32 i, j;

	spin_lock_bh(&b->lock);
	for (i = 0; i < ARRAY_SIZE(b->chains); i++)
		hlist_for_each_entry(c, &b->chains[i], node)
			list_for_each_entry(p, &c->prios, list)
				list_for_each_entry(r, &p->rules, same_prio)
					for (j = 0; j < r->nact; j++)
						if (sends(&r->act[j]) && r->act[j].dev == dev)
							WRITE_ONCE(r->act[j].dev, NULL);
	spin_unlock_bh(&b->lock);
}

void table_free(struct bound *b)             /* its rules are gone already, and so are its readers */
{
	struct chain *c;
	struct hlist_node *ct;
	struct prio *p, *pt;
	int i;

	for (i = 0; i < ARRAY_SIZE(b->chains); i++)
		hlist_for_each_entry_safe(c, ct, &b->chains[i], node) {
			list_for_each_entry_safe(p, pt, &c->prios, list)
				kfree(p);
			kfree(c);
		}
}

struct rule *table_lookup(struct bound *b, u32 index, const struct match *k)
{
	struct chain *c = chain_find(b, index);
	struct prio *p;
	struct rule *r;

	if (c)
		list_for_each_entry_rcu(p, &c->prios, list)
			list_for_each_entry_rcu(r, &p->rules, same_prio)
				if (!READ_ONCE(r->forgotten) && key_matches(k, &r->key, &r->mask))
					return r;
	return NULL;
}
