package relay

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/webhook"
)

// ErrManagedByConfig says that an endpoint of the config is changed there.
var ErrManagedByConfig = errors.New("this endpoint stands in the config and is changed there")

// endpoints joins those of the config with those made over the API. What is in force is in Relay.rules.
type endpoints struct {
	mu         sync.Mutex
	configured Rules
	version    string // of the registry when it was last read
	stored     map[endpointKey]storedEndpoint
	wake       chan struct{}            // the backlog is looked at
	leaving    map[endpointKey]struct{} // removed by this process, and their deliveries are not all ended yet
	snapshot   backlog
}

type endpointKey struct{ partner, id string }

type storedEndpoint struct {
	revision int64
	record   endpointRecord
}

const (
	registryEvery = 500 * time.Millisecond // how soon another replica's change is seen
	rotationTime  = 24 * time.Hour         // the secret before the newest signs so long
)

// LoadEndpoints reads the endpoints made over the API, if they changed. Until it succeeded once, no event may be taken: it
// would not reach them.
func (r *Relay) LoadEndpoints(ctx context.Context) error {
	if r.registry == nil {
		return nil
	}
	version, err := r.registry.Version(ctx)
	if err != nil {
		return err
	}
	r.endpoints.mu.Lock()
	same := r.endpoints.stored != nil && version == r.endpoints.version
	partners := slices.Sorted(maps.Keys(r.endpoints.configured.Partners))
	r.endpoints.mu.Unlock()
	if same {
		return nil
	}
	list, unread, err := r.registry.Of(ctx, partners)
	if err != nil {
		return err
	}
	stored := make(map[endpointKey]storedEndpoint, len(list))
	for _, s := range list {
		var rec endpointRecord
		if err := json.Unmarshal(s.Record, &rec); err != nil {
			unread = append(unread, s.Partner+"/"+s.ID)
			continue
		}
		stored[endpointKey{s.Partner, s.ID}] = storedEndpoint{s.Revision, rec}
	}
	if len(unread) > 0 {
		r.log.Error("endpoints that cannot be read: encrypted with another master key?", zap.Strings("endpoints", unread))
	}
	r.endpoints.mu.Lock()
	defer r.endpoints.mu.Unlock()
	r.endpoints.version, r.endpoints.stored = version, stored
	r.apply()
	return nil
}

// apply puts the rules in force: the config's, with the endpoints made over the API. Called with endpoints.mu.
func (r *Relay) apply() {
	rules := r.endpoints.configured
	rules.Partners = make(map[string]Partner, len(rules.Partners))
	now := time.Now()
	for name, p := range r.endpoints.configured.Partners {
		p.Endpoints = slices.Clone(p.Endpoints)
		for i := range p.Endpoints {
			e := &p.Endpoints[i]
			if keys, ok := p.WeChat[e.ID]; ok {
				e.Encode, e.Events = r.encoder(keys), []string{EventPush}
			}
		}
		rules.Partners[name] = p
	}
	for key, s := range r.endpoints.stored {
		p, ok := rules.Partners[key.partner]
		if _, taken := endpointOf(p, key.id); !ok || taken {
			continue // the config's own comes first
		}
		e, err := s.record.endpoint(key.partner, key.id, now)
		if err != nil {
			r.log.Error("endpoint without a secret", zap.String("partner", key.partner), zap.String("endpoint", key.id))
			continue
		}
		if s.record.Kind == KindWeChat && s.record.WeChat != nil {
			e.Encode, e.Events = r.encoder(*s.record.WeChat), []string{EventPush}
		}
		p.Endpoints = append(p.Endpoints, e)
		rules.Partners[key.partner] = p
	}
	for _, p := range rules.Partners {
		slices.SortFunc(p.Endpoints, func(a, b webhook.Endpoint) int { return strings.Compare(a.ID, b.ID) })
		for _, e := range p.Endpoints {
			r.q.Slots(deliverLane(e.Partner, e.ID), e.AtOnce())
		}
	}
	r.rules.Store(&rules)
}

// SyncEndpoints follows what other replicas change, lets old secrets end, and keeps what is held for endpoints within its
// bounds, until ctx ends.
func (r *Relay) SyncEndpoints(ctx context.Context) {
	read, tend := time.NewTicker(registryEvery), time.NewTicker(backlogEvery)
	defer read.Stop()
	defer tend.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-read.C:
			if err := r.LoadEndpoints(ctx); err != nil && ctx.Err() == nil {
				r.log.Warn("endpoints not read", zap.Error(err))
			}
		case <-r.endpoints.wake:
			r.tendBacklog(ctx)
		case <-tend.C:
			r.endRotations()
			if r.firstThisRound(ctx) {
				r.tendBacklog(ctx)
			}
		}
	}
}

// endRotations has secrets that are rotated out sign no more.
func (r *Relay) endRotations() {
	r.endpoints.mu.Lock()
	defer r.endpoints.mu.Unlock()
	now := time.Now().UnixMilli()
	for _, s := range r.endpoints.stored {
		if until := s.record.OldUntil; until != 0 && until <= now && until > now-2*backlogEvery.Milliseconds() {
			r.apply()
			return
		}
	}
}

// endpoint is an endpoint in force.
func (r *Relay) endpoint(partner, id string) (webhook.Endpoint, bool) {
	return endpointOf(r.rules.Load().Partners[partner], id)
}

func endpointOf(p Partner, id string) (webhook.Endpoint, bool) {
	for _, e := range p.Endpoints {
		if e.ID == id {
			return e, true
		}
	}
	return webhook.Endpoint{}, false
}

// known is endpoint, and looks into the registry again before it says no: another replica may just have made it.
func (r *Relay) known(ctx context.Context, partner, id string) (e webhook.Endpoint, ok bool, err error) {
	if e, ok = r.endpoint(partner, id); ok {
		return e, true, nil
	}
	if err = r.LoadEndpoints(ctx); err != nil {
		return e, false, err
	}
	e, ok = r.endpoint(partner, id)
	return e, ok, nil
}

// ofAPI is the registry's own of an endpoint, ok false when it is of the config or is not there.
func (r *Relay) ofAPI(partner, id string) (s storedEndpoint, ok bool) {
	r.endpoints.mu.Lock()
	defer r.endpoints.mu.Unlock()
	if _, config := endpointOf(r.endpoints.configured.Partners[partner], id); config {
		return s, false
	}
	s, ok = r.endpoints.stored[endpointKey{partner, id}]
	return s, ok
}

func (r *Relay) ofConfig(partner, id string) bool {
	r.endpoints.mu.Lock()
	defer r.endpoints.mu.Unlock()
	_, ok := endpointOf(r.endpoints.configured.Partners[partner], id)
	return ok
}

// Endpoints lists a partner's endpoints, by id, with what is known of each.
func (r *Relay) Endpoints(ctx context.Context, partner string) (Page[Endpoint], error) {
	page := Page[Endpoint]{Items: []Endpoint{}}
	for _, e := range r.rules.Load().Partners[partner].Endpoints {
		view, err := r.Endpoint(ctx, partner, e.ID)
		if errors.Is(err, ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return page, err
		}
		page.Items = append(page.Items, view)
	}
	return page, nil
}

// Endpoint shows one endpoint.
func (r *Relay) Endpoint(ctx context.Context, partner, id string) (Endpoint, error) {
	e, ok, err := r.known(ctx, partner, id)
	if err != nil {
		return Endpoint{}, err
	}
	if !ok {
		return Endpoint{}, ErrNotFound
	}
	how, err := r.health.Of(ctx, e.HealthKey())
	if err != nil {
		return Endpoint{}, err
	}
	backlog, err := r.backlogNow(ctx)
	if err != nil {
		return Endpoint{}, err
	}
	var keys *WeChatKeys
	var rec *endpointRecord
	if s, ok := r.ofAPI(partner, id); ok {
		rec, keys = &s.record, s.record.WeChat
	} else if k, ok := r.rules.Load().Partners[partner].WeChat[id]; ok {
		keys = &k
	}
	out := r.viewEndpoint(e, keys, rec)
	out.State, out.Reason, out.Failures = how.State, some(how.Reason), how.Failures
	out.Since, out.Until = someTime(how.Since), someTime(how.Until)
	b := backlog.of[endpointKey{partner, id}]
	out.Pending, out.Held, out.OldestAt = b.pending, b.held, someTime(b.oldest)
	return out, nil
}

// endpointName is what an endpoint may be called, as in the config.
var endpointName = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?$`)

// PutEndpoint makes an endpoint or replaces it whole; made tells which. request names the request, so that its repeat shows
// the secret that was made again.
func (r *Relay) PutEndpoint(ctx context.Context, partner, id, request string, q EndpointRequest) (view Endpoint, made bool, err error) {
	if r.ofConfig(partner, id) {
		return view, false, ErrManagedByConfig
	}
	p, ok := r.Partner(partner)
	if !ok || r.registry == nil {
		return view, false, ErrNotFound
	}
	for range 5 {
		if err := r.LoadEndpoints(ctx); err != nil {
			return view, false, err
		}
		var old *endpointRecord
		was, exists := r.ofAPI(partner, id)
		if exists {
			old = &was.record
		}
		rec, f := q.read(p, old)
		if !endpointName.MatchString(id) {
			f.add("id", "must be 1 to 64 of a-z, 0-9, _ and -, beginning and ending with a letter or digit")
		}
		if q.URL != "" {
			if err := r.sender.CheckReach(ctx, q.URL); err != nil {
				f.add("url", err.Error())
			}
		}
		if err := f.err("invalid_request"); err != nil {
			return view, false, err
		}
		shown := exists && old.ShownTo == request && q.Secrets == nil
		if len(rec.Secrets) == 0 {
			rec.Secrets, rec.ShownTo, shown = []string{webhook.GenerateSecret()}, request, true
		}
		now := time.Now().UnixMilli()
		rec.Created, rec.Updated = now, now
		if exists {
			rec.Created = old.Created
		}
		err := r.store(ctx, partner, id, was.revision, &rec)
		if errors.Is(err, webhook.ErrStale) {
			continue
		}
		if err != nil {
			return view, false, err
		}
		r.audit(partner, id, map[bool]string{false: "endpoint made", true: "endpoint changed"}[exists], zap.String("url", shownHost(rec.URL)))
		if exists && old.URL != rec.URL {
			r.stirBacklog()
		}
		if view, err = r.Endpoint(ctx, partner, id); shown && err == nil {
			view.Secrets = rec.Secrets[:1]
		}
		return view, !exists, err
	}
	return view, false, queue.ErrStale
}

// RotateEndpoint gives an endpoint a new secret, which is shown in this answer (and in that to the same request repeated). The
// one before signs too for 24 h.
func (r *Relay) RotateEndpoint(ctx context.Context, partner, id, request string) (Endpoint, error) {
	if r.ofConfig(partner, id) {
		return Endpoint{}, ErrManagedByConfig
	}
	for range 5 {
		if err := r.LoadEndpoints(ctx); err != nil {
			return Endpoint{}, err
		}
		was, ok := r.ofAPI(partner, id)
		if !ok {
			return Endpoint{}, ErrNotFound
		}
		rec := was.record
		if rec.ShownTo != request {
			now := time.Now()
			rec.Secrets = append([]string{webhook.GenerateSecret()}, rec.Secrets[0])
			rec.OldUntil, rec.Updated, rec.ShownTo = now.Add(rotationTime).UnixMilli(), now.UnixMilli(), request
			err := r.store(ctx, partner, id, was.revision, &rec)
			if errors.Is(err, webhook.ErrStale) {
				continue
			}
			if err != nil {
				return Endpoint{}, err
			}
			r.audit(partner, id, "endpoint secret rotated")
		}
		view, err := r.Endpoint(ctx, partner, id)
		view.Secrets = rec.Secrets[:1]
		return view, err
	}
	return Endpoint{}, queue.ErrStale
}

// DeleteEndpoint removes an endpoint and shows it as it was; its deliveries that wait are cancelled.
func (r *Relay) DeleteEndpoint(ctx context.Context, partner, id string) (Endpoint, error) {
	if r.ofConfig(partner, id) {
		return Endpoint{}, ErrManagedByConfig
	}
	for range 5 {
		if err := r.LoadEndpoints(ctx); err != nil {
			return Endpoint{}, err
		}
		was, ok := r.ofAPI(partner, id)
		if !ok {
			return Endpoint{}, ErrNotFound
		}
		view, err := r.Endpoint(ctx, partner, id)
		if err != nil {
			return Endpoint{}, err
		}
		err = r.store(ctx, partner, id, was.revision, nil)
		if errors.Is(err, webhook.ErrStale) {
			continue
		}
		if err != nil {
			return Endpoint{}, err
		}
		r.endpoints.mu.Lock()
		r.endpoints.leaving[endpointKey{partner, id}] = struct{}{}
		r.endpoints.mu.Unlock()
		r.audit(partner, id, "endpoint removed")
		r.stirBacklog()
		return view, nil
	}
	return Endpoint{}, queue.ErrStale
}

// removing tells whether this process removed an endpoint and has not ended all of its deliveries yet.
func (r *Relay) removing(key endpointKey) bool {
	r.endpoints.mu.Lock()
	defer r.endpoints.mu.Unlock()
	_, ok := r.endpoints.leaving[key]
	return ok
}

// removed notes that nothing of a removed endpoint is left.
func (r *Relay) removed(key endpointKey) {
	r.endpoints.mu.Lock()
	defer r.endpoints.mu.Unlock()
	delete(r.endpoints.leaving, key)
}

func (e *endpoints) removals() []endpointKey {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Collect(maps.Keys(e.leaving))
}

// store writes a record (nil removes it) and puts it in force here; other replicas see it within registryEvery.
func (r *Relay) store(ctx context.Context, partner, id string, revision int64, rec *endpointRecord) error {
	s := webhook.Stored{Partner: partner, ID: id, Revision: revision}
	if rec != nil {
		s.Record = encode(rec)
	}
	err := r.registry.Set(ctx, s)
	if errors.Is(err, webhook.ErrFull) {
		return &Invalid{Code: "invalid_request", Fields: []Field{{Field: "id", Reason: fmt.Sprintf("this partner has %d endpoints, as many as may be", webhook.MaxEndpoints)}}}
	}
	if err != nil {
		return err
	}
	return r.LoadEndpoints(ctx)
}

// EnableEndpoint ends that an endpoint is disabled or benched. plan says what becomes of the deliveries held meanwhile: all,
// since (those of events from since on; the others are cancelled), drop. They are seen to in the background.
func (r *Relay) EnableEndpoint(ctx context.Context, partner, id, plan string, since *time.Time) (Endpoint, error) {
	var f faults
	switch {
	case plan == "":
		plan = planAll
	case plan == planSince && since == nil:
		f.add("since", "is missing: from when on deliveries are sent")
	case plan == planSince:
		plan += ":" + strconv.FormatInt(since.UnixMilli(), 10)
	case plan != planAll && plan != planDrop:
		f.add("deliveries", "must be all, since or drop")
	}
	if since != nil && plan == planAll || since != nil && plan == planDrop {
		f.add("since", "is for deliveries: since")
	}
	if err := f.err("invalid_request"); err != nil {
		return Endpoint{}, err
	}
	e, ok, err := r.known(ctx, partner, id)
	if err != nil || !ok {
		return Endpoint{}, cmp.Or(err, ErrNotFound)
	}
	changed, err := r.health.Enable(ctx, e.HealthKey(), plan)
	if err != nil {
		return Endpoint{}, err
	}
	if err := r.q.Resume(ctx, deliverLane(partner, id)); err != nil {
		return Endpoint{}, err
	}
	r.audit(partner, id, "endpoint enabled", zap.String("deliveries", plan))
	r.announce(ctx, e, changed, "enabled", time.Now())
	r.stirBacklog()
	return r.Endpoint(ctx, partner, id)
}

// DisableEndpoint has the deliveries of an endpoint wait until it is enabled.
func (r *Relay) DisableEndpoint(ctx context.Context, partner, id string) (Endpoint, error) {
	e, ok, err := r.known(ctx, partner, id)
	if err != nil || !ok {
		return Endpoint{}, cmp.Or(err, ErrNotFound)
	}
	const why = "disabled on request"
	changed, err := r.health.Disable(ctx, e.HealthKey(), why)
	if err != nil {
		return Endpoint{}, err
	}
	r.audit(partner, id, "endpoint disabled")
	r.announce(ctx, e, changed, why, time.Now())
	return r.Endpoint(ctx, partner, id)
}

// ProbeEndpoint looks at a benched endpoint at once: the bench is over, and a test event is the probe.
func (r *Relay) ProbeEndpoint(ctx context.Context, partner, id string) (Delivery, error) {
	e, ok, err := r.known(ctx, partner, id)
	if err != nil || !ok {
		return Delivery{}, cmp.Or(err, ErrNotFound)
	}
	if err := r.health.Probe(ctx, e.HealthKey()); err != nil {
		return Delivery{}, err
	}
	if err := r.q.Resume(ctx, deliverLane(partner, id)); err != nil {
		return Delivery{}, err
	}
	r.audit(partner, id, "endpoint probed")
	return r.TestEndpoint(ctx, partner, id)
}

// TestEvent is the data of endpoint.test.
type TestEvent struct {
	Partner  string `json:"partner"`
	Endpoint string `json:"endpoint"`
}

// testLife is how long a test event is worth sending.
const testLife = 15 * time.Minute

// TestEndpoint sends an endpoint.test event to an endpoint, whatever it subscribes to, and disabled or not. It is tried once.
func (r *Relay) TestEndpoint(ctx context.Context, partner, id string) (Delivery, error) {
	e, ok, err := r.known(ctx, partner, id)
	if err != nil || !ok {
		return Delivery{}, cmp.Or(err, ErrNotFound)
	}
	if err := r.sender.CheckReach(ctx, e.URL); err != nil {
		return Delivery{}, &Invalid{Code: "invalid_request", Fields: []Field{{Field: "url", Reason: err.Error()}}}
	}
	shard, now := r.q.Shard(partner, id), time.Now()
	t := notification{shard: shard, partner: partner, typ: EventEndpointTest, at: now, data: TestEvent{partner, id}}
	job, err := r.delivery(e, envelope{ID: r.q.NewID("evt_", shard), Type: t.typ, Until: now.Add(testLife).UnixMilli(), Trace: r.traceOf(ctx)}, t.payload(), nil)
	if err != nil {
		return Delivery{}, err
	}
	if res := r.q.Commit(ctx, queue.Change{Shard: shard, Jobs: []queue.Job{job}}); res.Err != nil {
		return Delivery{}, res.Err
	}
	r.audit(partner, id, "endpoint tested")
	return r.Delivery(ctx, partner, job.ID)
}

// announce tells the partner's other endpoints what was done to this one; a failure is logged, since what was done is done.
func (r *Relay) announce(ctx context.Context, e webhook.Endpoint, changed webhook.Transition, why string, now time.Time) {
	if changed == webhook.NoTransition {
		return
	}
	shard := r.q.Shard(e.Partner, e.ID)
	jobs := r.notifyHealth(shard, e.Partner, e.ID, changed, webhook.Outcome{Err: why}, now)
	if len(jobs) == 0 {
		return
	}
	if res := r.q.Commit(ctx, queue.Change{Shard: shard, Jobs: jobs}); res.Err != nil {
		r.log.Warn("a change of an endpoint's state is not told", zap.String("partner", e.Partner), zap.String("endpoint", e.ID), zap.Error(res.Err))
	}
}

// audit writes who changed what; the operator's own name stands in the request's log line.
func (r *Relay) audit(partner, endpoint, what string, more ...zap.Field) {
	r.log.Info("audit", append([]zap.Field{zap.String("what", what), zap.String("partner", partner), zap.String("endpoint", endpoint)}, more...)...)
}

// KnownEndpoints are the endpoints of the rules and those of the registry beside them, by partner and id.
func KnownEndpoints(rules Rules, stored []webhook.Stored) (list []webhook.Endpoint) {
	for _, p := range rules.Partners {
		list = append(list, p.Endpoints...)
	}
	for _, s := range stored {
		var rec endpointRecord
		if _, config := endpointOf(rules.Partners[s.Partner], s.ID); config || json.Unmarshal(s.Record, &rec) != nil {
			continue
		}
		if e, err := rec.endpoint(s.Partner, s.ID, time.Now()); err == nil {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b webhook.Endpoint) int {
		return cmp.Or(strings.Compare(a.Partner, b.Partner), strings.Compare(a.ID, b.ID))
	})
	return list
}
