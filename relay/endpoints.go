package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/relay/queue"
	"github.com/wxrelay/wxrelay/relay/webhook"
)

// ErrManagedByConfig says that an endpoint of the config is changed there.
var ErrManagedByConfig = errors.New("this endpoint stands in the config and is changed there")

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
