package relay

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/wxrelay/wxrelay/relay/webhook"
)

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
