// SPDX-License-Identifier: GPL-2.0
/* The PCI functions: on the NIC's side a devlink instance with its representors, on the host's side a netdev. */
#include "simnic.h"

/* The two sides of a NIC are bound and unbound on their own: who comes second finds the other, under this. */
static DEFINE_MUTEX(func_lock);

static int esw_mode(struct devlink *dl, u16 *mode)
{
	*mode = DEVLINK_ESWITCH_MODE_SWITCHDEV;
	return 0;
}

static int esw_mode_set(struct devlink *dl, u16 mode, struct netlink_ext_ack *ea)
{
	if (mode == DEVLINK_ESWITCH_MODE_SWITCHDEV)
		return 0;
	NL_SET_ERR_MSG_MOD(ea, "Can't change mode: this NIC is always in switchdev mode");
	return -EOPNOTSUPP;
}

static int info_get(struct devlink *dl, struct devlink_info_req *req, struct netlink_ext_ack *ea)
{
	struct esw **esw = devlink_priv(dl);
	char serial[16];

	snprintf(serial, sizeof(serial), "SIMNIC%04d", (*esw)->nic->id);
	return devlink_info_serial_number_put(req, serial) ?:
	       devlink_info_version_running_put(req, DEVLINK_INFO_VERSION_GENERIC_FW, "0.0.0-simnic");
}
static const struct devlink_ops dl_ops = {
	.eswitch_mode_get = esw_mode, .eswitch_mode_set = esw_mode_set, .info_get = info_get,
};

/* A representor. Under a template its name tells nothing of what it is. */
static struct port *rep_new(struct esw *esw, struct pci_dev *pdev, enum kind kind, int vf)
{
	char name[IFNAMSIZ];

	if (*esw->nic->names)
		strscpy(name, esw->nic->names);
	else if (kind == UPLINK)
		snprintf(name, sizeof(name), "p%d", esw->pf);
	else if (kind == PF_REP)
		snprintf(name, sizeof(name), "pf%dhpf", esw->pf);
	else
		snprintf(name, sizeof(name), "pf%dvf%d", esw->pf, vf);
	return port_new(esw, kind, vf, esw->nic->net, &pdev->dev, name);
}

static void put(struct port **p)
{
	if (*p)
		port_del(*p);
	*p = NULL;
}

static void arm_remove(struct esw *esw)
{
	int i;

	if (esw->indirect)
		tunnels_unwatch(esw);
	put(&esw->wire);
	devl_lock(esw->devlink);
	devl_unregister(esw->devlink);
	for (i = 0; i < esw->nic->nvfs; i++)
		put(&esw->vf_rep[i]);
	put(&esw->pf_rep);
	put(&esw->uplink);
	devl_unlock(esw->devlink);
	devlink_free(esw->devlink);
	esw->devlink = NULL;
}

static int arm_probe(struct pci_dev *pdev, struct esw *esw)
{
	struct nic *nic = esw->nic;
	char name[IFNAMSIZ];
	bool ok;
	int i;

	esw->devlink = devlink_alloc_ns(&dl_ops, sizeof(esw), nic->net, &pdev->dev);
	if (!esw->devlink)
		return -ENOMEM;
	*(struct esw **)devlink_priv(esw->devlink) = esw;
	devl_lock(esw->devlink);
	/* the last VF first: under a template the number is not the VF's */
	for (i = nic->nvfs, ok = true; ok && i--; ok = esw->vf_rep[i])
		esw->vf_rep[i] = rep_new(esw, pdev, VF_REP, i);
	if (ok)
		esw->pf_rep = rep_new(esw, pdev, PF_REP, -1);
	if (esw->pf_rep)
		esw->uplink = rep_new(esw, pdev, UPLINK, -1);
	devl_register(esw->devlink);
	devl_unlock(esw->devlink);
	if (esw->uplink) {
		snprintf(name, sizeof(name), esw->pf ? "wire%dp%d" : "wire%d", nic->id, esw->pf);
		esw->wire = port_new(esw, WIRE, -1, &init_net, NULL, name);
	}
	if (!esw->wire || tunnels_watch(esw)) {
		pci_err(pdev, "no memory, or a name is taken\n");
		arm_remove(esw);
		return -ENODEV;
	}
	port_join(esw->uplink, esw->wire);
	port_join(esw->pf_dev, esw->pf_rep);
	for (i = 0; i < nic->nvfs; i++)
		port_join(esw->vf[i], esw->vf_rep[i]);
	pci_set_drvdata(pdev, esw);
	return 0;
}

static int host_probe(struct pci_dev *pdev, struct esw *esw, int vf)
{
	struct nic *nic = esw->nic;
	struct port **p = vf < 0 ? &esw->pf_dev : &esw->vf[vf];
	struct port *rep = vf < 0 ? esw->pf_rep : esw->vf_rep[vf];
	char name[IFNAMSIZ], pf[4] = "", v[8] = "";

	if (esw->pf)
		snprintf(pf, sizeof(pf), "f%d", esw->pf);
	if (vf >= 0)
		snprintf(v, sizeof(v), "v%d", vf);
	snprintf(name, sizeof(name), "ens%d%s%s", nic->id, pf, v);
	*p = port_new(esw, vf < 0 ? PF : VF, vf, &init_net, &pdev->dev, name);
	if (!*p) {
		pci_err(pdev, "no memory, or the name %s is taken\n", name);
		return -ENOMEM;
	}
	port_join(*p, rep);
	pci_set_drvdata(pdev, *p);
	return 0;
}

/* Which PF a function is, or belongs to, and which VF it is; -1 for a PF. */
static struct esw *esw_of(struct pci_dev *pdev, struct bus *b, int *vf)
{
	struct nic *nic = b->nic;
	int n = (int)pdev->devfn - nic->npfs;

	*vf = n < 0 ? -1 : n % nic->nvfs;
	return &nic->esw[n < 0 ? pdev->devfn : n / nic->nvfs];
}

int func_probe(struct pci_dev *pdev, struct bus *b)
{
	int vf;
	struct esw *esw = esw_of(pdev, b, &vf);

	int err;

	mutex_lock(&func_lock);
	err = b->host ? host_probe(pdev, esw, vf) : arm_probe(pdev, esw);
	mutex_unlock(&func_lock);
	return err;
}

void func_remove(struct pci_dev *pdev, struct bus *b)
{
	int vf;
	struct esw *esw = esw_of(pdev, b, &vf);

	if (b->host && vf < 0)
		pci_disable_sriov(pdev);     /* comes back here for each VF */
	mutex_lock(&func_lock);
	if (b->host)
		put(vf < 0 ? &esw->pf_dev : &esw->vf[vf]);
	else
		arm_remove(esw);
	mutex_unlock(&func_lock);
	pci_set_drvdata(pdev, NULL);
}
