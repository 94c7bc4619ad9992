// SPDX-License-Identifier: GPL-2.0
/* TC blocks: those of the representors, and those of tunnel devices in the NIC's namespace, which every eSwitch of that
 * namespace is offered, as mlx5 takes them through the indirect block API. */
#include "simnic.h"

static LIST_HEAD(bounds);
static DEFINE_MUTEX(bounds_lock);            /* binding is not always under rtnl, see flow_indr_dev_register() */
static LIST_HEAD(cb_list);                   /* TC's, which looks here for a block bound twice */

static int block_cb(enum tc_setup_type type, void *type_data, void *priv)
{
	struct flow_cls_common_offload *c = type_data;
	struct bound *b = priv;

	if (type == TC_SETUP_CLSFLOWER)
		return rule_command(b, type_data);
	return refuse(b->esw->nic, type == TC_SETUP_CLSMATCHALL || type == TC_SETUP_CLSBPF ? c->extack : NULL, F_TYPE);
}

static void free_left(void *r, void *nic)
{
	atomic_dec(&((struct nic *)nic)->nrules);
	rule_free(r);
}

static void bound_free(void *priv)
{
	struct bound *b = priv;

	mutex_lock(&bounds_lock);
	list_del(&b->list);
	if (b->port)
		RCU_INIT_POINTER(b->port->bound, NULL);
	else
		list_del_rcu(&b->tunnel);
	mutex_unlock(&bounds_lock);
	synchronize_net();
	rhashtable_free_and_destroy(&b->rules, free_left, b->esw->nic);
	table_free(b);
	kfree(b);
}

static struct bound *bound_new(struct esw *esw, struct net_device *dev, struct port *port)
{
	struct bound *b = kzalloc(sizeof(*b), GFP_KERNEL);

	if (!b)
		return NULL;
	b->dev = dev;
	b->esw = esw;
	b->port = port;
	spin_lock_init(&b->lock);
	if (rhashtable_init(&b->rules, &rule_params)) {
		kfree(b);
		return NULL;
	}
	mutex_lock(&bounds_lock);
	list_add(&b->list, &bounds);
	if (port)
		rcu_assign_pointer(port->bound, b);
	else
		list_add_rcu(&b->tunnel, &esw->tunnels);
	mutex_unlock(&bounds_lock);
	return b;
}

static struct bound *bound_find(const struct esw *esw, const struct net_device *dev)
{
	struct bound *b, *found = NULL;

	mutex_lock(&bounds_lock);
	list_for_each_entry(b, &bounds, list)
		if (b->esw == esw && b->dev == dev)
			found = b;
	mutex_unlock(&bounds_lock);
	return found;                        /* its binding and unbinding are serialised by the callers */
}

/* What TC gives with the block of another driver's device, and wants back. */
struct foreign { struct Qdisc *sch; void *data; void (*cleanup)(struct flow_block_cb *cb); };

static int block_setup(struct esw *esw, struct net_device *dev, struct flow_block_offload *f, struct port *port,
		       const struct foreign *foreign)
{
	struct bound *b = bound_find(esw, dev);
	struct flow_block_cb *cb;

	f->driver_block_list = &cb_list;
	f->unlocked_driver_cb = true;
	switch (f->command) {
	case FLOW_BLOCK_BIND:
		if (b)
			return -EEXIST;
		b = bound_new(esw, dev, port);
		if (!b)
			return -ENOMEM;
		cb = foreign ? flow_indr_block_cb_alloc(block_cb, b, b, bound_free, f, dev, foreign->sch, foreign->data,
							esw, foreign->cleanup) :
			       flow_block_cb_alloc(block_cb, b, b, bound_free);
		if (IS_ERR(cb)) {
			bound_free(b);
			return PTR_ERR(cb);
		}
		flow_block_cb_add(cb, f);
		list_add_tail(&cb->driver_list, &cb_list);
		return 0;
	case FLOW_BLOCK_UNBIND:
		cb = b ? flow_block_cb_lookup(f->block, block_cb, b) : NULL;
		if (!cb)
			return -ENOENT;
		if (foreign)
			flow_indr_block_cb_remove(cb, f);
		else
			flow_block_cb_remove(cb, f);
		list_del(&cb->driver_list);
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

int port_setup_tc(struct net_device *dev, enum tc_setup_type type, void *data)
{
	struct port *p = netdev_priv(dev);
	struct flow_block_offload *f = data;

	if (type != TC_SETUP_BLOCK || f->binder_type != FLOW_BLOCK_BINDER_TYPE_CLSACT_INGRESS || !is_rep(p))
		return -EOPNOTSUPP;
	return block_setup(p->esw, dev, f, p, NULL);
}

static int indirect(struct net_device *dev, struct Qdisc *sch, void *cb_priv, enum tc_setup_type type, void *type_data,
		    void *data, void (*cleanup)(struct flow_block_cb *))
{
	struct foreign foreign = { .sch = sch, .data = data, .cleanup = cleanup };
	struct flow_block_offload *f = type_data;
	struct esw *esw = cb_priv;

	if (!dev || type != TC_SETUP_BLOCK || !is_tunnel(dev) || !net_eq(esw->nic->net, dev_net(dev)) ||
	    f->binder_type != FLOW_BLOCK_BINDER_TYPE_CLSACT_INGRESS)
		return -EOPNOTSUPP;
	return block_setup(esw, dev, f, NULL, &foreign);
}

/* Every eSwitch registers for itself: what it was given goes back when it goes. */
int tunnels_watch(struct esw *esw)
{
	int err = flow_indr_dev_register(indirect, esw);

	esw->indirect = !err;
	return err;
}

void tunnels_unwatch(struct esw *esw)
{
	flow_indr_dev_unregister(indirect, esw, bound_free);
	esw->indirect = false;
}

/* A device goes: no rule may send frames to it any more. The grace period is the unregistering's own. */
static int gone(struct notifier_block *nb, unsigned long event, void *ptr)
{
	struct net_device *dev = netdev_notifier_info_to_dev(ptr);
	struct bound *b;

	if (event != NETDEV_UNREGISTER)
		return NOTIFY_DONE;
	mutex_lock(&bounds_lock);
	list_for_each_entry(b, &bounds, list)
		table_forget_device(b, dev);
	mutex_unlock(&bounds_lock);
	return NOTIFY_DONE;
}
static struct notifier_block notifier = { .notifier_call = gone };

static void each_rule(void (*fn)(struct bound *, struct rule *, void *), void *arg)
{
	struct bound *b;

	mutex_lock(&bounds_lock);
	list_for_each_entry(b, &bounds, list) {
		struct rhashtable_iter it;
		struct rule *r;

		rhashtable_walk_enter(&b->rules, &it);
		rhashtable_walk_start(&it);  /* RCU from here: the rule and the device stay */
		while ((r = rhashtable_walk_next(&it)) != NULL)
			if (!IS_ERR(r))
				fn(b, r, arg);
		rhashtable_walk_stop(&it);
		rhashtable_walk_exit(&it);
	}
	mutex_unlock(&bounds_lock);
}

static void show(struct bound *b, struct rule *r, void *s)
{
	seq_printf(s, "nic %d %s chain %u prio %u keys %#llx actions %u packets %lld%s\n", b->esw->nic->id, b->dev->name,
		   r->chain, r->prio, r->keys, r->nact, (s64)atomic64_read(&r->pkts),
		   READ_ONCE(r->forgotten) ? " forgotten" : "");
}

static void forget(struct bound *b, struct rule *r, void *nic)
{
	if (b->esw->nic == nic)
		WRITE_ONCE(r->forgotten, true);
}

void rules_show(struct seq_file *s) { each_rule(show, s); }

void rules_forget(struct nic *nic)
{
	count_fault(nic, F_FORGET);
	each_rule(forget, nic);
}

int block_init(void) { return register_netdevice_notifier(&notifier); }
void block_exit(void) { unregister_netdevice_notifier(&notifier); }
