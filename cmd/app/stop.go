package app

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Close stops taking, finishes what is in hand or gives it back within shutdown_grace (less when ctx ends earlier), and
// closes doors, loops and Redis. It waits for all of that, and can be called again. What could not be finished in time
// stays leased in Redis and is taken up by the next process: that is no error.
func (a *App) Close(ctx context.Context) error {
	a.closing.Do(func() {
		defer close(a.closed)
		began, grace := time.Now(), a.config.Load().ShutdownGrace
		a.log.Info("stopping", zap.Duration("grace", grace))
		a.stopping.Store(true)
		p := patienceOf(grace)
		draining, cancel := context.WithDeadline(ctx, began.Add(p.drain))
		defer cancel()
		inTime := a.drain(draining)
		leaving, cancel := context.WithDeadline(ctx, began.Add(p.leave))
		defer cancel()
		a.closeErr = a.takeApart(leaving)
		level := zap.InfoLevel
		if !inTime {
			level = zap.WarnLevel
		}
		a.log.Log(level, "stopped", zap.Duration("took", time.Since(began)), zap.Bool("in_time", inTime), zap.Error(a.closeErr))
		a.endLog()
	})
	<-a.closed
	return a.closeErr
}

// patience is how the grace of a stop is shared out, each part counted from its beginning.
type patience struct {
	loops time.Duration // the queue's own: Redis may be away to the last, and then it uses all of it
	drain time.Duration // a moment more, so that it can write down how it ended
	leave time.Duration // the admin server's last answers; what is left is for closing Redis and writing the log
}

// patienceOf keeps the whole stop within the grace: whoever sent SIGTERM may kill us at its end.
func patienceOf(grace time.Duration) patience {
	spare := min(grace/4, 500*time.Millisecond)
	return patience{loops: grace - spare, drain: grace - spare/2, leave: grace - spare/4}
}

// drain ends the public door's requests and the loops side by side (decision 3). What a last request queues is for the
// next process.
func (a *App) drain(ctx context.Context) (inTime bool) {
	a.endLife()
	var both sync.WaitGroup
	inTime = true
	var mu sync.Mutex
	late := func() {
		mu.Lock()
		defer mu.Unlock()
		inTime = false
	}
	both.Go(func() {
		defer time.AfterFunc(newcomerPatience, a.connections.dismiss).Stop()
		if a.public != nil && a.public.Shutdown(ctx) != nil {
			late()
			_ = a.public.Close()
		}
	})
	both.Go(func() {
		done := make(chan struct{})
		go func() { a.work.Wait(); close(done) }()
		select {
		case <-done:
		case <-ctx.Done():
			late()
		}
	})
	both.Wait()
	return inTime
}

// takeApart closes what is open, in whatever state the start was left.
func (a *App) takeApart(ctx context.Context) error {
	a.endLife()
	var errs []error
	var flushed sync.WaitGroup
	if a.tracing != nil { // beside the doors: a receiver that is away has no time of theirs
		flushed.Go(func() { a.tracing.close(ctx) })
	}
	defer flushed.Wait()
	for _, s := range []*http.Server{a.public, a.admin} {
		if s == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		if s.Shutdown(ctx) != nil {
			errs = append(errs, s.Close())
		}
		cancel()
	}
	errs = append(errs, a.endRedis())
	return errors.Join(errs...)
}
