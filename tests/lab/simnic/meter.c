// SPDX-License-Identifier: GPL-2.0
/* Policers: a token bucket for each police action of a rule. Unlike act_police's, one police action by index that several
 * rules share is one bucket for each of them; so it is on hardware that has no shared meters. */
#include "simnic.h"
#include <linux/math64.h>

struct meter {
	spinlock_t lock;
	u64 tokens, last;                    /* bytes, or packets, times NSEC_PER_SEC; time in ns */
};

static u64 depth(const struct flow_action_entry *a)
{
	return (a->police.rate_bytes_ps ? a->police.burst : a->police.burst_pkt) * (u64)NSEC_PER_SEC;
}

struct meter *meters_new(const struct flow_action_entry *act, u32 n)
{
	struct meter *m = kcalloc(n, sizeof(*m), GFP_KERNEL);
	u32 i;

	for (i = 0; m && i < n; i++) {
		spin_lock_init(&m[i].lock);
		if (act[i].id == FLOW_ACTION_POLICE) {
			m[i].tokens = depth(&act[i]);
			m[i].last = ktime_get_ns();
		}
	}
	return m;
}

bool meter_passes(struct meter *meters, u32 i, const struct flow_action_entry *a, u32 len)
{
	u64 rate = a->police.rate_bytes_ps ?: a->police.rate_pkt_ps, now = ktime_get_ns(), full = depth(a), passed;
	u64 price = (a->police.rate_bytes_ps ? len : 1) * (u64)NSEC_PER_SEC;
	struct meter *m = &meters[i];
	bool ok = true;

	if (a->police.mtu && len > a->police.mtu)
		return false;
	if (!rate)
		return true;
	spin_lock_bh(&m->lock);
	passed = now - m->last;
	m->last = now;
	/* a bucket that would overflow is full; the product cannot wrap below that */
	if (passed >= div64_u64(full - min(full, m->tokens), rate))
		m->tokens = full;
	else
		m->tokens += passed * rate;
	if (m->tokens >= price)
		m->tokens -= price;
	else
		ok = false;
	spin_unlock_bh(&m->lock);
	return ok;
}
