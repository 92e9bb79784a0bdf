package binding

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Bounds of audiences.
const (
	AudienceMembers = 100_000 // of one audience
	audiencesMax    = 1_000   // of one partner
	memberChunk     = 1_000   // members written, or changed in one step
	loadTime        = 10 * time.Minute
)

// What may be wrong with an audience.
var (
	ErrAudienceLarge = errors.New("binding: an audience has at most 100,000 members")
	ErrAudiencesMany = errors.New("binding: a partner has at most 1,000 audiences")
)

// Audience is a named business type and who gets it. Its members are a partner's users or openids of the app.
//
// Its keys, all of one partner in one slot:
//
//	wx:{b:H(partner)}:a        name -> header                  never: bounded by audiencesMax
//	                 :m<gen>   members, by their text          never, as long as a header names them; 10 min while loading
//	                 :g        the last generation             never
//	                 :s<id>    members at one moment           as long as the caller says
//	                 :x        snapshots there are             with the last of them
type Audience struct {
	Name, App, TemplateID string
	Users                 bool // members are users, not openids
	Total                 int
	UpdatedAt             time.Time

	generation string
}

func audienceTag(partner string) string { return tag("audience", partner) }

// PutAudience creates an audience or replaces all of it; members may repeat. Readers see the old members or the new ones.
// ErrAudienceLarge, ErrAudiencesMany.
func (b *Book) PutAudience(ctx context.Context, partner string, a Audience, members []string) (Audience, error) {
	at := audienceTag(partner)
	generation, err := b.load(ctx, at, "", members, nil)
	if err != nil {
		return Audience{}, err
	}
	return b.put(ctx, at, a, generation, "")
}

// load writes members under a generation of their own, which nobody reads yet: a copy of another one with members added
// and removed.
func (b *Book) load(ctx context.Context, at, copyOf string, add, remove []string) (string, error) {
	n, err := b.rdb.Incr(ctx, at+"g").Result()
	if err != nil {
		return "", away(err)
	}
	generation := strconv.FormatInt(n, 10)
	key := at + "m" + generation
	if copyOf != "" {
		if err := b.rdb.Copy(ctx, at+"m"+copyOf, key, b.db(), false).Err(); err != nil {
			return "", away(err)
		}
	}
	pipe := b.rdb.Pipeline()
	for chunk := range slices.Chunk(add, memberChunk) {
		z := make([]redis.Z, len(chunk))
		for i, m := range chunk {
			z[i] = redis.Z{Member: m}
		}
		pipe.ZAdd(ctx, key, z...)
		pipe.PExpire(ctx, key, loadTime)
	}
	for chunk := range slices.Chunk(remove, memberChunk) {
		args := make([]any, len(chunk))
		for i, m := range chunk {
			args[i] = m
		}
		pipe.ZRem(ctx, key, args...)
	}
	pipe.PExpire(ctx, key, loadTime)
	if _, err := pipe.Exec(ctx); err != nil {
		return "", away(err)
	}
	return generation, nil
}

// db is the number of the database, which COPY wants named.
func (b *Book) db() int {
	if c, ok := b.rdb.(*redis.Client); ok {
		return c.Options().DB
	}
	return 0
}

// put makes a loaded generation the audience's own. errMoved when it is not to replace what is there now.
func (b *Book) put(ctx context.Context, at string, a Audience, generation, replaces string) (Audience, error) {
	kind := "o"
	if a.Users {
		kind = "u"
	}
	v, err := b.run(ctx, audiencePutScript, []string{at + "a"}, at, a.Name, a.App, a.TemplateID, kind, generation, replaces, audiencesMax, AudienceMembers)
	if err != nil {
		return Audience{}, err
	}
	return readHeader(a.Name, v)
}

var errMoved = errors.New("binding: the audience was replaced meanwhile")

// readHeader reads what the scripts answer.
func readHeader(name string, v any) (Audience, error) {
	s, _ := v.(string)
	switch s {
	case "":
		return Audience{}, ErrNotFound
	case "large":
		return Audience{}, ErrAudienceLarge
	case "many":
		return Audience{}, ErrAudiencesMany
	case "moved":
		return Audience{}, errMoved
	}
	part := strings.Split(s, "\n")
	if len(part) != 6 {
		return Audience{}, fmt.Errorf("binding: the header of audience %q has %d parts", name, len(part))
	}
	total, err1 := strconv.Atoi(part[3])
	ms, err2 := strconv.ParseInt(part[4], 10, 64)
	return Audience{Name: name, App: part[0], TemplateID: part[1], Users: part[2] == "u", Total: total,
		UpdatedAt: time.UnixMilli(ms).UTC(), generation: part[5]}, errors.Join(err1, err2)
}

// PatchAudience adds and removes members, at once for readers; a member that is in both lists is removed. ErrNotFound,
// ErrAudienceLarge.
func (b *Book) PatchAudience(ctx context.Context, partner, name string, add, remove []string) (Audience, error) {
	at := audienceTag(partner)
	if len(add)+len(remove) <= memberChunk {
		args := append(make([]any, 0, 4+len(add)+len(remove)), at, name, AudienceMembers, len(add))
		for _, m := range slices.Concat(add, remove) {
			args = append(args, m)
		}
		v, err := b.run(ctx, audiencePatchScript, []string{at + "a"}, args...)
		if err != nil {
			return Audience{}, err
		}
		return readHeader(name, v)
	}
	for range 3 { // of many, a copy is changed, unless another change came between
		a, err := b.Audience(ctx, partner, name)
		if err != nil {
			return Audience{}, err
		}
		generation, err := b.load(ctx, at, a.generation, add, remove)
		if err != nil {
			return Audience{}, err
		}
		if a, err = b.put(ctx, at, a, generation, a.generation); !errors.Is(err, errMoved) {
			return a, err
		}
	}
	return Audience{}, ErrBusy
}

// Audience reads an audience without its members. ErrNotFound.
func (b *Book) Audience(ctx context.Context, partner, name string) (Audience, error) {
	v, err := b.rdb.HGet(ctx, audienceTag(partner)+"a", name).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return Audience{}, away(err)
	}
	return readHeader(name, v)
}

// Audiences lists a partner's audiences by name.
func (b *Book) Audiences(ctx context.Context, partner string) ([]Audience, error) {
	all, err := b.rdb.HGetAll(ctx, audienceTag(partner)+"a").Result()
	if err != nil {
		return nil, away(err)
	}
	out := make([]Audience, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		a, err := readHeader(name, all[name])
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

// Members lists members in the order of their bytes, those behind after.
func (b *Book) Members(ctx context.Context, partner string, a Audience, after string, limit int) ([]string, error) {
	return b.members(ctx, audienceTag(partner)+"m"+a.generation, after, limit)
}

func (b *Book) members(ctx context.Context, key, after string, limit int) ([]string, error) {
	from := "-"
	if after != "" {
		from = "(" + after
	}
	out, err := b.rdb.ZRangeByLex(ctx, key, &redis.ZRangeBy{Min: from, Max: "+", Count: int64(limit)}).Result()
	if err != nil {
		return nil, away(err)
	}
	return out, nil
}

// DeleteAudience deletes an audience; snapshots stay. ErrNotFound.
func (b *Book) DeleteAudience(ctx context.Context, partner, name string) (Audience, error) {
	at := audienceTag(partner)
	v, err := b.run(ctx, audienceDeleteScript, []string{at + "a"}, at, name)
	if err != nil {
		return Audience{}, err
	}
	return readHeader(name, v)
}

// Snapshot copies the members as they are now under id, for keep; asked for again under the same id it is the first copy.
// ErrNotFound.
func (b *Book) Snapshot(ctx context.Context, partner, name, id string, keep time.Duration) (Audience, error) {
	at := audienceTag(partner)
	v, err := b.run(ctx, audienceSnapshotScript, []string{at + "a", at + "x"}, at, name, id, keep.Milliseconds())
	if err != nil {
		return Audience{}, err
	}
	return readHeader(name, v)
}

// SnapshotMembers lists members of a snapshot behind after; none is its end, or the end of its time.
func (b *Book) SnapshotMembers(ctx context.Context, partner, id, after string, limit int) ([]string, error) {
	return b.members(ctx, audienceTag(partner)+"s"+id, after, limit)
}

// DropSnapshot ends a snapshot.
func (b *Book) DropSnapshot(ctx context.Context, partner, id string) error {
	at := audienceTag(partner)
	pipe := b.rdb.Pipeline()
	pipe.Unlink(ctx, at+"s"+id)
	pipe.HDel(ctx, at+"x", id)
	if _, err := pipe.Exec(ctx); err != nil {
		return away(err)
	}
	return nil
}

// ForgetMember takes a person out of all audiences and snapshots of a partner: by openid, and by the partner's user when
// there is one.
func (b *Book) ForgetMember(ctx context.Context, partner, app, openid, user string) error {
	at := audienceTag(partner)
	_, err := b.run(ctx, audienceForgetScript, []string{at + "a", at + "x"}, at, app, openid, user)
	return err
}
