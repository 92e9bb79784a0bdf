package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// request is one HTTP/1.1 request as bytes, made before the clock starts, so that the load costs little of the two cores
// that it shares with what it measures.
type request []byte

// outcome of one load: how many answers were as wanted, in what time, how slow.
type outcome struct {
	Done    int
	Refused int // answers of another status than wanted
	Took    time.Duration
	P50     time.Duration
	P99     time.Duration
}

func (o outcome) perSecond() float64 { return float64(o.Done) / o.Took.Seconds() }

// load is a closed loop (rate 0) over conns connections, or an open one at rate requests a second whose latencies count
// from the moment a request was due, so that a slow answer does not hide the ones behind it.
type load struct {
	addr   string
	conns  int
	rate   int
	want   int                                // status
	next   func(conn, i int) (request, error) // nil request = this connection is done
	limit  time.Duration
	record func(conn, i int, body []byte)
}

func (l load) run() (outcome, error) {
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		all     []time.Duration
		refused atomic.Int64
		firstE  atomic.Pointer[error]
		start   = time.Now()
	)
	for c := range l.conns {
		wg.Add(1)
		go func() {
			defer wg.Done()
			took, err := l.connection(c, start, &refused)
			if err != nil {
				firstE.CompareAndSwap(nil, &err)
			}
			mu.Lock()
			all = append(all, took...)
			mu.Unlock()
		}()
	}
	wg.Wait()
	o := outcome{Done: len(all), Refused: int(refused.Load()), Took: time.Since(start)}
	if err := firstE.Load(); err != nil {
		return o, *err
	}
	if len(all) == 0 {
		return o, errors.New("no request was answered as wanted")
	}
	slices.Sort(all)
	o.P50, o.P99 = all[len(all)/2], all[len(all)*99/100]
	return o, nil
}

func (l load) connection(c int, start time.Time, refused *atomic.Int64) ([]time.Duration, error) {
	conn, err := net.Dial("tcp", l.addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(start.Add(l.limit + 30*time.Second)); err != nil {
		return nil, err
	}
	in := bufio.NewReaderSize(conn, 16<<10)
	var took []time.Duration
	for i := 0; ; i++ {
		begin := time.Now()
		if l.rate > 0 {
			begin = start.Add(time.Duration(i*l.conns+c) * time.Second / time.Duration(l.rate))
			if d := time.Until(begin); d > 0 {
				time.Sleep(d)
			}
		}
		if begin.Sub(start) >= l.limit {
			return took, nil
		}
		req, err := l.next(c, i)
		if err != nil || req == nil {
			return took, err
		}
		if _, err := conn.Write(req); err != nil {
			return took, err
		}
		status, body, err := answer(in)
		if err != nil {
			return took, err
		}
		if status != l.want {
			if refused.Add(1) == 1 {
				fmt.Printf("   unexpected answer %d: %.200s\n", status, body)
			}
			continue
		}
		took = append(took, time.Since(begin))
		if l.record != nil {
			l.record(c, i, body)
		}
	}
}

// answer reads one response: status line, content-length, body. It knows no more of HTTP than our servers say.
func answer(in *bufio.Reader) (status int, body []byte, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 12 {
		return 0, nil, fmt.Errorf("not a status line: %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, nil, err
	}
	length := 0
	for {
		line, err = in.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if v, ok := cutFold(line, "content-length:"); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(v))); err != nil {
				return 0, nil, err
			}
		}
	}
	body = make([]byte, length)
	_, err = io.ReadFull(in, body)
	return status, body, err
}

func cutFold(line []byte, name string) ([]byte, bool) {
	if len(line) < len(name) || !bytes.EqualFold(line[:len(name)], []byte(name)) {
		return nil, false
	}
	return line[len(name):], true
}

// post builds a request.
func post(host, target string, header map[string]string, body []byte) request {
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", target, host, len(body))
	for k, v := range header {
		fmt.Fprintf(&b, "%s: %s\r\n", k, v)
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}
