package queue

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// List reads the jobs under a tag, newest first; shard -1 is all of them, merged. cursor is "" or the next of the page
// before; next is "" at the end. A page may be shorter than n when jobs are forgotten meanwhile. A cursor that is not ours
// is ErrID.
func (q *Queue) List(ctx context.Context, tag string, shard int, cursor string, n int) (recs []Record, next string, err error) {
	return q.Search(ctx, Query{Of: []Listed{{tag, shard}}}, cursor, n)
}

// Listed is one tag on one shard, -1 = on all of them.
type Listed struct {
	Tag   string
	Shard int
}

// ListAny reads the jobs under any of some tags, newest first, as List does. A job under two of them comes twice.
func (q *Queue) ListAny(ctx context.Context, of []Listed, cursor string, n int) (recs []Record, next string, err error) {
	return q.Search(ctx, Query{Of: of}, cursor, n)
}

// Query says which jobs a Search is for.
type Query struct {
	Of           []Listed  // under any of these
	State        string    // "" = any; waiting (ready, later or leased), parked, ended or buried
	Contains     []string  // each of these stands in the first line of the Body
	Since, Until time.Time // put between these, the ends included; zero = open
	Oldest       bool      // the oldest first, not the newest
}

// Search reads the jobs that fit, as List does. Redis itself passes over those that do not: a page is as full as it can be.
func (q *Queue) Search(ctx context.Context, s Query, cursor string, n int) (recs []Record, next string, err error) {
	scan := scan{order: -1, state: s.State, contains: s.Contains, from: "+inf", to: "-inf"}
	if !s.Since.IsZero() {
		scan.to = strconv.FormatInt(s.Since.UnixMicro(), 10)
	}
	if !s.Until.IsZero() {
		scan.from = strconv.FormatInt(s.Until.UnixMicro(), 10)
	}
	if s.Oldest {
		scan.order, scan.from, scan.to = 1, scan.to, scan.from
	}
	for _, l := range s.Of {
		scan.of = append(scan.of, source{"t:" + l.Tag, l.Shard})
	}
	return q.page(ctx, scan, cursor, n)
}

// Parked reads the jobs parked under a name, those first that were parked first; otherwise as List.
func (q *Queue) Parked(ctx context.Context, shard int, name, cursor string, n int) (recs []Record, next string, err error) {
	return q.page(ctx, scan{of: []source{{"k:" + name, shard}}, order: 1, from: "-inf", to: "+inf"}, cursor, n)
}

// place is where a job stands in an index.
type place struct {
	shard int
	at    int64 // us
	id    string
}

// source is an index on one shard, or on all of them (-1).
type source struct {
	index string
	shard int
}

// scan is what a page is read from, and what of it.
type scan struct {
	of       []source
	order    int    // 1 for oldest first, -1 for newest first
	from, to string // scores
	state    string
	contains []string
}

// stretch is one shard's part of an index, read piece by piece.
type stretch struct {
	index string
	shard int
	from  string
	skip  int64
	got   []place
	end   bool
}

// page merges the shards' indexes.
func (q *Queue) page(ctx context.Context, what scan, cursor string, n int) ([]Record, string, error) {
	last, err := parseCursor(cursor)
	if err != nil {
		return nil, "", err
	}
	from := what.from
	if last != nil {
		from = strconv.FormatInt(last.at, 10)
	}
	var stretches []*stretch
	for _, s := range what.of {
		if s.shard < -1 || s.shard >= q.o.Shards || n <= 0 || strings.ContainsRune(s.index, '\n') {
			return nil, "", fmt.Errorf("%w: shard %d, %d a page", ErrID, s.shard, n)
		}
		for i := range q.o.Shards {
			if s.shard == -1 || s.shard == i {
				stretches = append(stretches, &stretch{index: s.index, shard: i, from: from})
			}
		}
	}
	less := func(a, b place) int { return what.order * cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.id, b.id)) }
	err = each(len(stretches), func(i int) error {
		s := stretches[i]
		for !s.end && len(s.got) <= n {
			if err := q.more(ctx, &what, s, n+1); err != nil {
				return err
			}
			if last != nil {
				s.got = slices.DeleteFunc(s.got, func(p place) bool { return less(p, *last) <= 0 })
			}
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	var all []place
	for _, s := range stretches {
		all = append(all, s.got...)
	}
	slices.SortFunc(all, less)
	next := ""
	if len(all) > n {
		all = all[:n]
		next = all[n-1].cursor()
	}
	recs, err := q.fetchAll(ctx, all)
	return recs, next, err
}

// searchStep is how many jobs one call of a search looks at: some milliseconds of Redis.
const searchStep = 500

// more reads the next piece of a stretch.
func (q *Queue) more(ctx context.Context, what *scan, s *stretch, n int) error {
	order := "newest"
	if what.order > 0 {
		order = "oldest"
	}
	if what.state != "" || len(what.contains) > 0 {
		n = max(n, searchStep)
	}
	args := []any{s.index, order, s.from, what.to, s.skip, n, what.state}
	for _, text := range what.contains {
		args = append(args, text)
	}
	res, err := q.list.run(ctx, q.rdb, Prefix(s.shard), args...)
	if err != nil {
		return unavailable(err)
	}
	flat, _ := res.([]any)
	if len(flat) < 2 {
		return unavailable(fmt.Errorf("list answered %d values", len(flat)))
	}
	looked, _ := flat[0].(int64)
	gone, _ := flat[1].(int64)
	for i := 2; i+1 < len(flat); i += 2 {
		id, _ := flat[i].(string)
		at, _ := flat[i+1].(string)
		s.got = append(s.got, place{s.shard, number(at), id})
	}
	s.skip += looked - gone
	s.end = looked < int64(n)
	return nil
}

// fetchAll reads the jobs of places, in their order.
func (q *Queue) fetchAll(ctx context.Context, places []place) ([]Record, error) {
	ids := make([][]string, q.o.Shards)
	for _, p := range places {
		ids[p.shard] = append(ids[p.shard], p.id)
	}
	found := make([]map[string]Record, q.o.Shards)
	err := q.eachShard(func(i int) error {
		if len(ids[i]) == 0 {
			return nil
		}
		recs, err := q.fetch(ctx, i, ids[i]...)
		found[i] = make(map[string]Record, len(recs))
		for _, r := range recs {
			found[i][r.ID] = r
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	recs := make([]Record, 0, len(places))
	for _, p := range places {
		if r, ok := found[p.shard][p.id]; ok {
			recs = append(recs, r)
		}
	}
	return recs, nil
}

func (p place) cursor() string { return strconv.FormatInt(p.at, 36) + "~" + p.id }

func parseCursor(c string) (*place, error) {
	if c == "" {
		return nil, nil
	}
	at, id, ok := strings.Cut(c, "~")
	us, err := strconv.ParseInt(at, 36, 64)
	if _, idErr := ShardOf(id); !ok || err != nil || idErr != nil {
		return nil, fmt.Errorf("%w: cursor", ErrID)
	}
	return &place{at: us, id: id}, nil
}
