package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// load is a closed loop over conns connections: the next request of one leaves when the last is answered. Requests are
// written as bytes, so that the load itself costs as little as possible of what it is measured on.
type load struct {
	name     string
	addr     string
	conns    int
	duration time.Duration
	most     int // requests; 0 = as many as fit into duration
	want     int // status
	request  func(i int) ([]byte, error)
	progress func(name string, share float64) // nil = nobody watches
}

// measured is what a load found.
type measured struct {
	Name      string        `json:"name"`
	Requests  int           `json:"requests"`
	Refused   int           `json:"refused"` // answered with another status
	PerSecond float64       `json:"per_second"`
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
	Ratio     float64       `json:"ratio"` // to the baseline of the same run; 1 = the baseline itself
}

func (l load) run(ctx context.Context) (measured, error) {
	ctx, cancel := context.WithTimeout(ctx, l.duration)
	defer cancel()
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		all      []time.Duration
		refused  atomic.Int64
		number   atomic.Int64
		firstErr error
	)
	began := time.Now()
	stopWatch := l.watch(ctx, began, &number)
	for range l.conns {
		wg.Go(func() {
			took, err := l.connection(ctx, &number, &refused)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			if firstErr == nil && ctx.Err() == nil {
				firstErr = err
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	stopWatch()
	m := measured{Name: l.name, Requests: len(all), Refused: int(refused.Load()), PerSecond: float64(len(all)) / took.Seconds()}
	if firstErr != nil {
		return m, fmt.Errorf("%s: %w", l.name, firstErr)
	}
	if len(all) == 0 {
		return m, fmt.Errorf("%s: no request was answered with %d", l.name, l.want)
	}
	slices.Sort(all)
	m.P50, m.P99 = all[len(all)/2], all[len(all)*99/100]
	return m, nil
}

// watch reports how far it is, by time or by count, whichever is nearer to the end.
func (l load) watch(ctx context.Context, began time.Time, number *atomic.Int64) (stop func()) {
	if l.progress == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				l.progress(l.name, 1)
				return
			case <-tick.C:
				share := float64(time.Since(began)) / float64(l.duration)
				if l.most > 0 {
					share = max(share, float64(number.Load())/float64(l.most))
				}
				l.progress(l.name, min(share, 1))
			}
		}
	}()
	return func() { cancel(); <-done }
}

func (l load) connection(ctx context.Context, number, refused *atomic.Int64) (took []time.Duration, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", l.addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now().Add(2 * time.Second)) }) // the last answers
	defer stop()
	in := bufio.NewReader(conn)
	for ctx.Err() == nil {
		i := number.Add(1)
		if l.most > 0 && i > int64(l.most) {
			return took, nil
		}
		raw, err := l.request(int(i))
		if err != nil {
			return took, err
		}
		began := time.Now()
		if _, err := conn.Write(raw); err != nil {
			return took, err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return took, err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			return took, err
		}
		if resp.StatusCode != l.want {
			if refused.Add(1) > int64(100+l.most/10) {
				return took, fmt.Errorf("refused with %s", resp.Status)
			}
			continue
		}
		took = append(took, time.Since(began))
		if resp.Close {
			return took, errors.New("the connection was closed by the other side")
		}
	}
	return took, nil
}
