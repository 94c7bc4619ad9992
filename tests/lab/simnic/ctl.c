// SPDX-License-Identifier: GPL-2.0
/* The files in /sys/kernel/debug/simnic.
 *
 *   new       "ID VFS [names=TEMPLATE] [pfs=1|2] [controller=N]": a NIC, its NIC side in the writer's network namespace
 *   del       "ID"
 *   forget    "ID": the eSwitch loses all its rules and tells nobody
 *   carrier   "ID PF PORT 0|1": pulls and plugs a cable: PORT is p (the uplink), pf, or vfN
 *   rules, conns, stats, faults, tunnels (the UDP ports that are opened)
 *   nicID/    what holds for one NIC: max_rules, max_chain, max_conns, keys, acts, run, enc_flags, add_delay_us,
 *             fail_errno and fail_count (the next fail_count additions of a rule fail with fail_errno)
 */
#include "simnic.h"
#include <linux/debugfs.h>
#include <linux/nsproxy.h>

static char *names = "";            module_param(names, charp, 0444);
MODULE_PARM_DESC(names, "template for names of representors, see \"new\"");

/* TEMPLATE is the part before the number, as in eth, so that the name tells nothing but that. */
static int set_names(struct nic *nic, const char *template)
{
	const char *c;

	for (c = template; *c; c++)
		if (!isalnum(*c) && *c != '_' && *c != '-')
			return -EINVAL;
	if (strlen(template) > MAX_NAME || (*template && isdigit(c[-1])))
		return -EINVAL;
	if (*template)
		snprintf(nic->names, sizeof(nic->names), "%s%%d", template);
	return 0;
}

static int parse_new(struct nic *wanted, char *s)
{
	char *word;
	int err = set_names(wanted, names);

	wanted->npfs = 1;
	wanted->controller = 1;
	word = strsep(&s, " \t\n");
	if (err || kstrtoint(word, 0, &wanted->id))
		return -EINVAL;
	word = strsep(&s, " \t\n");
	if (!word || kstrtoint(word, 0, &wanted->nvfs))
		return -EINVAL;
	while ((word = strsep(&s, " \t\n"))) {
		char *value = word;

		strsep(&value, "=");
		if (!*word)
			continue;
		if (!value)
			return -EINVAL;
		if (!strcmp(word, "names"))
			err = set_names(wanted, value);
		else if (!strcmp(word, "pfs"))
			err = kstrtoint(value, 0, &wanted->npfs);
		else if (!strcmp(word, "controller"))
			err = kstrtoint(value, 0, &wanted->controller);
		else
			err = -EINVAL;
		if (err || wanted->controller < 0 || wanted->controller > MAX_CONTROLLER)
			return -EINVAL;
	}
	return 0;
}

static ssize_t new_write(struct file *file, const char __user *buf, size_t n, loff_t *off)
{
	struct nic *wanted;
	char *s;
	int err;

	s = memdup_user_nul(buf, min_t(size_t, n, 256));
	if (IS_ERR(s))
		return PTR_ERR(s);
	wanted = kvzalloc(sizeof(*wanted), GFP_KERNEL);
	err = wanted ? parse_new(wanted, strim(s)) : -ENOMEM;
	if (!err) {
		wanted->net = current->nsproxy->net_ns;
		mutex_lock(&nics_lock);
		err = nic_add(wanted);
		mutex_unlock(&nics_lock);
	}
	kvfree(wanted);
	kfree(s);
	return err ?: n;
}
static const struct file_operations new_fops = { .owner = THIS_MODULE, .open = simple_open, .write = new_write };

static ssize_t with_nic(const char __user *buf, size_t n, void (*what)(struct nic *))
{
	struct nic *nic;
	int id, err = kstrtoint_from_user(buf, n, 0, &id);

	if (err)
		return err;
	mutex_lock(&nics_lock);
	nic = nic_find(id);
	if (nic)
		what(nic);
	mutex_unlock(&nics_lock);
	return nic ? n : -ENOENT;
}
static ssize_t del_write(struct file *f, const char __user *buf, size_t n, loff_t *o) { return with_nic(buf, n, nic_del); }
static const struct file_operations del_fops = { .owner = THIS_MODULE, .open = simple_open, .write = del_write };
static ssize_t forget_write(struct file *f, const char __user *buf, size_t n, loff_t *o)
{
	return with_nic(buf, n, rules_forget);
}
static const struct file_operations forget_fops = { .owner = THIS_MODULE, .open = simple_open, .write = forget_write };

static struct port *port_named(struct nic *nic, int pf, const char *name)
{
	struct esw *esw;
	int vf;

	if (pf < 0 || pf >= nic->npfs)
		return NULL;
	esw = &nic->esw[pf];
	if (!strcmp(name, "p"))
		return esw->uplink;
	if (!strcmp(name, "pf"))
		return esw->pf_rep;
	if (sscanf(name, "vf%d", &vf) == 1 && vf >= 0 && vf < nic->nvfs)
		return esw->vf_rep[vf];
	return NULL;
}

static ssize_t carrier_write(struct file *file, const char __user *buf, size_t n, loff_t *off)
{
	struct port *p = NULL;
	char s[32] = {}, name[8];
	struct nic *nic;
	int id, pf, in;

	if (n >= sizeof(s) || copy_from_user(s, buf, n) || sscanf(s, "%d %d %7s %d", &id, &pf, name, &in) != 4)
		return -EINVAL;
	mutex_lock(&nics_lock);
	nic = nic_find(id);
	if (nic)
		p = port_named(nic, pf, name);
	if (p)
		port_plug(p, in);
	mutex_unlock(&nics_lock);
	return p ? n : -ENOENT;
}
static const struct file_operations carrier_fops = { .owner = THIS_MODULE, .open = simple_open, .write = carrier_write };

static int rules_file_show(struct seq_file *s, void *v) { rules_show(s); return 0; }
DEFINE_SHOW_ATTRIBUTE(rules_file);

static int stats_show(struct seq_file *s, void *v)
{
	struct nic *nic;

	mutex_lock(&nics_lock);
	list_for_each_entry(nic, &nics, list)
		seq_printf(s, "nic %d rules %d frames %lld ended_in_hardware %lld to_software %lld lost %lld\n", nic->id,
			   atomic_read(&nic->nrules), (s64)atomic64_read(&nic->frames), (s64)atomic64_read(&nic->ended),
			   (s64)atomic64_read(&nic->missed), (s64)atomic64_read(&nic->lost));
	mutex_unlock(&nics_lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(stats);

static int conns_show(struct seq_file *s, void *v)
{
	struct nic *nic;
	int i;

	mutex_lock(&nics_lock);
	list_for_each_entry(nic, &nics, list)
		for (i = 0; i < nic->npfs; i++)
			ct_show(s, &nic->esw[i]);
	mutex_unlock(&nics_lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(conns);

static int faults_file_show(struct seq_file *s, void *v)
{
	struct nic *nic;

	mutex_lock(&nics_lock);
	list_for_each_entry(nic, &nics, list)
		faults_show(s, nic);
	mutex_unlock(&nics_lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(faults_file);

static int tunnels_show(struct seq_file *s, void *v)
{
	struct nic *nic;
	int pf, kind, i;

	mutex_lock(&nics_lock);
	list_for_each_entry(nic, &nics, list)
		for (pf = 0; pf < nic->npfs; pf++)
			for (kind = 0; kind < 2; kind++)
				for (i = 0; i < MAX_TUNNEL_PORTS; i++)
					if (nic->esw[pf].tunnel_ports[kind][i])
						seq_printf(s, "nic %d pf %d %s %u\n", nic->id, pf, kind ? "geneve" : "vxlan",
							   ntohs((__force __be16)nic->esw[pf].tunnel_ports[kind][i]));
	mutex_unlock(&nics_lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(tunnels);

static struct dentry *dir;

void ctl_nic(struct nic *nic)
{
	struct knobs *k = &nic->knobs;
	char name[16];

	snprintf(name, sizeof(name), "nic%d", nic->id);
	nic->dir = debugfs_create_dir(name, dir);
	debugfs_create_u32("max_rules", 0600, nic->dir, &k->max_rules);
	debugfs_create_u32("max_chain", 0600, nic->dir, &k->max_chain);
	debugfs_create_u32("max_conns", 0600, nic->dir, &k->max_conns);
	debugfs_create_u32("fail_errno", 0600, nic->dir, &k->fail_errno);
	debugfs_create_atomic_t("fail_count", 0600, nic->dir, &k->fail_count);
	debugfs_create_u32("add_delay_us", 0600, nic->dir, &k->add_delay_us);
	debugfs_create_x64("keys", 0600, nic->dir, &k->keys);
	debugfs_create_x64("acts", 0600, nic->dir, &k->acts);
	debugfs_create_bool("run", 0600, nic->dir, &k->run);
	debugfs_create_bool("enc_flags", 0600, nic->dir, &k->enc_flags);
}

void ctl_init(void)
{
	dir = debugfs_create_dir("simnic", NULL);
	debugfs_create_file("new", 0200, dir, NULL, &new_fops);
	debugfs_create_file("del", 0200, dir, NULL, &del_fops);
	debugfs_create_file("forget", 0200, dir, NULL, &forget_fops);
	debugfs_create_file("carrier", 0200, dir, NULL, &carrier_fops);
	debugfs_create_file("rules", 0400, dir, NULL, &rules_file_fops);
	debugfs_create_file("stats", 0400, dir, NULL, &stats_fops);
	debugfs_create_file("conns", 0400, dir, NULL, &conns_fops);
	debugfs_create_file("faults", 0400, dir, NULL, &faults_file_fops);
	debugfs_create_file("tunnels", 0400, dir, NULL, &tunnels_fops);
}

/* The NICs' own directories are theirs to remove: they were taken out of the debugfs with this one. */
void ctl_exit(void)
{
	struct nic *nic;

	debugfs_remove(dir);
	mutex_lock(&nics_lock);
	list_for_each_entry(nic, &nics, list)
		nic->dir = NULL;
	mutex_unlock(&nics_lock);
}
