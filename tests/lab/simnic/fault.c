// SPDX-License-Identifier: GPL-2.0
/* What is refused, and what is made to fail: module parameters for all NICs, debugfs for one. Everything is counted. */
#include "simnic.h"
#include <linux/delay.h>

static uint max_rules = MAX_RULES;  module_param(max_rules, uint, 0644);
static uint max_chain = MAX_CHAIN;  module_param(max_chain, uint, 0644);
static uint max_conns = MAX_CONNS;  module_param(max_conns, uint, 0644);
static int  fail_errno;             module_param(fail_errno, int, 0644);
MODULE_PARM_DESC(fail_errno, "the next fail_count additions of a rule fail with it");
static uint fail_count;             module_param(fail_count, uint, 0644);
static bool enc_flags = true;       module_param(enc_flags, bool, 0644);
MODULE_PARM_DESC(enc_flags, "N: matches on tunnel flags are refused, as mlx5 does");
static bool geneve_iana_only;       module_param(geneve_iana_only, bool, 0644);
MODULE_PARM_DESC(geneve_iana_only, "Y: Geneve on port 6081 only, as mlx5 does");
static uint add_delay_us;           module_param(add_delay_us, uint, 0644);
static bool run = true;             module_param(run, bool, 0644);
MODULE_PARM_DESC(run, "N: every frame goes to software");
static ulong keys = BIT_ULL(FLOW_DISSECTOR_KEY_META) | BIT_ULL(FLOW_DISSECTOR_KEY_CONTROL) |
	BIT_ULL(FLOW_DISSECTOR_KEY_BASIC) | BIT_ULL(FLOW_DISSECTOR_KEY_ETH_ADDRS) |
	BIT_ULL(FLOW_DISSECTOR_KEY_VLAN) | BIT_ULL(FLOW_DISSECTOR_KEY_CVLAN) |
	BIT_ULL(FLOW_DISSECTOR_KEY_IPV4_ADDRS) | BIT_ULL(FLOW_DISSECTOR_KEY_IPV6_ADDRS) |
	BIT_ULL(FLOW_DISSECTOR_KEY_PORTS) | BIT_ULL(FLOW_DISSECTOR_KEY_TCP) |
	BIT_ULL(FLOW_DISSECTOR_KEY_IP) | BIT_ULL(FLOW_DISSECTOR_KEY_CT) | BIT_ULL(FLOW_DISSECTOR_KEY_ICMP) |
	BIT_ULL(FLOW_DISSECTOR_KEY_ENC_KEYID) | BIT_ULL(FLOW_DISSECTOR_KEY_ENC_IPV4_ADDRS) |
	BIT_ULL(FLOW_DISSECTOR_KEY_ENC_IPV6_ADDRS) | BIT_ULL(FLOW_DISSECTOR_KEY_ENC_CONTROL) |
	BIT_ULL(FLOW_DISSECTOR_KEY_ENC_PORTS) | BIT_ULL(FLOW_DISSECTOR_KEY_ENC_IP) | BIT_ULL(FLOW_DISSECTOR_KEY_ENC_OPTS);
module_param(keys, ulong, 0644);
MODULE_PARM_DESC(keys, "bits of enum flow_dissector_key_id: those of mlx5's __parse_cls_flower(), MPLS excepted");
static ulong acts = BIT_ULL(FLOW_ACTION_ACCEPT) | BIT_ULL(FLOW_ACTION_DROP) | BIT_ULL(FLOW_ACTION_TRAP) |
	BIT_ULL(FLOW_ACTION_GOTO) | BIT_ULL(FLOW_ACTION_REDIRECT) | BIT_ULL(FLOW_ACTION_MIRRED) |
	BIT_ULL(FLOW_ACTION_VLAN_PUSH) | BIT_ULL(FLOW_ACTION_VLAN_POP) | BIT_ULL(FLOW_ACTION_VLAN_MANGLE) |
	BIT_ULL(FLOW_ACTION_MANGLE) | BIT_ULL(FLOW_ACTION_CSUM) | BIT_ULL(FLOW_ACTION_POLICE) |
	BIT_ULL(FLOW_ACTION_CT) | BIT_ULL(FLOW_ACTION_TUNNEL_ENCAP) | BIT_ULL(FLOW_ACTION_TUNNEL_DECAP);
module_param(acts, ulong, 0644);
MODULE_PARM_DESC(acts, "bits of enum flow_action_id");

static const struct { const char *name; int err; const char *text; } faults[] = {
#define FAULT(id, name, errno, text) [id] = { name, errno, KBUILD_MODNAME ": " text },
#include "faults.h"
#undef FAULT
};

void knobs_init(struct knobs *k)
{
	*k = (struct knobs){ .max_rules = U32_MAX, .max_chain = U32_MAX, .max_conns = U32_MAX, .keys = U64_MAX,
			     .acts = U64_MAX, .run = true, .enc_flags = true };
}

u64 keys_of(const struct nic *nic) { return keys & nic->knobs.keys; }
u64 acts_of(const struct nic *nic) { return acts & nic->knobs.acts; }
u32 max_rules_of(const struct nic *nic) { return min(READ_ONCE(max_rules), nic->knobs.max_rules); }
u32 max_chain_of(const struct nic *nic) { return min(READ_ONCE(max_chain), nic->knobs.max_chain); }
u32 max_conns_of(const struct nic *nic) { return min(READ_ONCE(max_conns), nic->knobs.max_conns); }
bool enc_flags_of(const struct nic *nic) { return enc_flags && nic->knobs.enc_flags; }
bool iana_geneve(void) { return geneve_iana_only; }
bool runs(const struct nic *nic) { return READ_ONCE(run) && READ_ONCE(nic->knobs.run); }

void count_fault(struct nic *nic, enum fault why) { atomic64_inc(&nic->faults[why]); }

int refuse(struct nic *nic, struct netlink_ext_ack *ea, enum fault why)
{
	count_fault(nic, why);
	if (ea && faults[why].text[sizeof(KBUILD_MODNAME ": ") - 1])
		ea->_msg = faults[why].text; /* NL_SET_ERR_MSG() takes literals only, NL_SET_ERR_MSG_FMT() cuts at 80 */
	return -faults[why].err;
}

/* An addition of a rule that is told to be slow, or to fail. */
int injected(struct nic *nic, struct netlink_ext_ack *ea)
{
	static DEFINE_SPINLOCK(lock);
	u32 delay = READ_ONCE(add_delay_us) + READ_ONCE(nic->knobs.add_delay_us);
	int err = 0;

	if (delay)
		fsleep(delay);
	if (nic->knobs.fail_errno && atomic_dec_if_positive(&nic->knobs.fail_count) >= 0)
		err = nic->knobs.fail_errno;
	spin_lock(&lock);
	if (!err && fail_errno && fail_count) {
		fail_count--;
		err = fail_errno;
	}
	spin_unlock(&lock);
	if (err)
		refuse(nic, ea, F_INJECTED);
	return -min_t(u32, err, MAX_ERRNO);
}

void faults_show(struct seq_file *s, const struct nic *nic)
{
	int i;

	for (i = 0; i < FAULTS; i++)
		seq_printf(s, "nic %d %s %lld\n", nic->id, faults[i].name, (s64)atomic64_read(&nic->faults[i]));
}
