package relay

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/wxrelay/wxrelay/relay/queue"
)

// Several sends of one template to one user may be without an answer at once, and their reports name msgids that we never
// learned. One report says nothing then. Each is kept beside the user's sends, and as soon as there are as many alike as sends
// that they can be about, it does not matter which is whose.

// openCall is a send whose outcome is not known.
type openCall struct {
	id    string
	since int64 // when its call left, Unix milliseconds
	twice bool  // it was repeated: two reports may come of it
}

// pair is a report and the send it settles.
type pair struct {
	id string
	rc receipt
}

// certain tells what reports and open sends leave no doubt about. A report can be about a send only that left before it came.
// So of the reports in the order they came, the first k settle as many sends when just k sends had left by then and all say the
// same. Which is whose is chosen by age; both sides come sorted, so that two processes choose alike.
func certain(reports []receipt, sends []openCall) []pair {
	slices.SortFunc(reports, func(a, b receipt) int { return cmp.Or(a.came.Compare(b.came), cmp.Compare(a.msgid, b.msgid)) })
	slices.SortFunc(sends, func(a, b openCall) int { return cmp.Or(cmp.Compare(a.since, b.since), cmp.Compare(a.id, b.id)) })
	var out []pair
	for k := 1; k <= len(reports); k++ {
		last := reports[k-1]
		if last.ok != reports[0].ok {
			return out
		}
		left, twice := 0, false
		for _, s := range sends {
			if s.since <= last.came.UnixMilli() {
				left++
				twice = twice || s.twice
			}
		}
		if left != k {
			continue
		}
		if twice && k > 1 {
			return out
		}
		if k > 1 { // why one failed may be why the other did
			alike(reports[:k])
		}
		for i := range k {
			out = append(out, pair{sends[i].id, reports[i]})
		}
		reports, sends, k = reports[k:], sends[k:], 0
	}
	return out
}

// alike takes from failed reports the reasons in which they differ.
func alike(reports []receipt) {
	var reasons []string
	for _, rc := range reports {
		if !slices.Contains(reasons, rc.status) {
			reasons = append(reasons, rc.status)
		}
	}
	if len(reasons) == 1 {
		return
	}
	for i := range reports {
		reports[i].status, reports[i].code = strings.Join(reasons, " or "), nil
	}
}

// keptReport is a report as it waits beside the sends it may be about.
type keptReport struct {
	MsgID  string `json:"m"`
	OK     bool   `json:"k"`
	Status string `json:"s"`
	Code   *int   `json:"c,omitempty"`
	Came   int64  `json:"t"` // Unix milliseconds
}

// reportPark is where reports of one line wait for others like them.
func reportPark(app, openid, template string) string {
	return "r/" + app + "/" + openid + "/" + template
}

// settleAlike keeps a report that may be about one of several sends, and settles those that the kept ones leave no doubt about.
// Tells whether this one is settled.
func (r *Relay) settleAlike(ctx context.Context, shard int, app, openid string, rc receipt, sends []openCall, now time.Time) (bool, error) {
	if rc.msgid == "" {
		return false, nil
	}
	park := reportPark(app, openid, rc.template)
	kept := keptReport{rc.msgid, rc.ok, rc.status, rc.code, rc.came.UnixMilli()}
	job := queue.Job{ID: r.q.IDFor("rpt_", shard, park+"/"+rc.msgid), Lane: laneRelease + ":" + app, Park: park, Body: encode(reportJob{Report: &kept}),
		Expires: rc.came.Add(r.rules.Load().UnknownDeadline + r.receiptPatience())}
	if err := r.q.Commit(ctx, queue.Change{Shard: shard, Jobs: []queue.Job{job}}).Err; err != nil && !errors.Is(err, queue.ErrExists) {
		return false, err
	}
	recs, err := r.waiting(ctx, shard, park)
	if err != nil {
		return false, err
	}
	ids := map[string]string{} // msgid -> job
	var reports []receipt
	for _, rec := range recs {
		var o reportJob
		if json.Unmarshal(rec.Body, &o) != nil || o.Report == nil {
			continue
		}
		k := o.Report
		_, err := r.q.Lookup(ctx, shard, msgidName(app, k.MsgID))
		switch {
		case err == nil: // its message is known meanwhile
			r.dropReport(ctx, shard, rec.ID)
			continue
		case !errors.Is(err, queue.ErrNotFound):
			return false, err
		}
		ids[k.MsgID] = rec.ID
		reports = append(reports, receipt{channel: rc.channel, template: rc.template, msgid: k.MsgID, ok: k.OK, status: k.Status, code: k.Code,
			came: time.UnixMilli(k.Came)})
	}
	own := false
	for _, p := range certain(reports, sends) {
		if err := r.settleOne(ctx, app, p.id, p.rc, now); err != nil {
			return false, err
		}
		r.dropReport(ctx, shard, ids[p.rc.msgid])
		own = own || p.rc.msgid == rc.msgid
	}
	return own, nil
}

// dropReport ends a kept report. One that stays is passed over, since its msgid has a message, and expires.
func (r *Relay) dropReport(ctx context.Context, shard int, id string) {
	_ = r.q.Commit(ctx, queue.Change{Shard: shard, Edit: &queue.Edit{ID: id, Version: -1, To: queue.End}})
}
