package gateway

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// slowly gives one byte at a time, as a body of unknown length.
type slowly struct{ r io.Reader }

func (s slowly) Read(p []byte) (int, error) { return s.r.Read(p[:1]) }

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("reset by peer") }

func TestRead(t *testing.T) {
	const limit = 200_000
	full := bytes.Repeat([]byte("x"), limit)
	for name, c := range map[string]struct {
		from io.Reader
		code Code
		want int
	}{
		"empty":             {http.NoBody, "", 0},
		"at the limit":      {bytes.NewReader(full), "", limit},
		"chunked, at it":    {slowly{bytes.NewReader(full)}, "", limit},
		"announced past it": {bytes.NewReader(append(full, 'x')), TooLarge, 0},
		"chunked past it":   {slowly{bytes.NewReader(append(full, 'x'))}, TooLarge, 0},
		"broken off":        {broken{}, Malformed, 0},
		"endless":           {slowly{zeros{}}, TooLarge, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			var b body
			small := &budget{limit: 1 << 20}
			r := httptest.NewRequest("POST", "/", c.from)
			var tapped bytes.Buffer
			err := b.read(w, r, limit, &tapped, [2]*budget{small})
			defer func() {
				if b.release(); small.used.Load() != 0 {
					t.Errorf("%d bytes are not given back", small.used.Load())
				}
			}()
			if c.code != "" {
				var f *fault
				if !errors.As(err, &f) || f.code != c.code {
					t.Fatalf("error %v, want %s", err, c.code)
				}
				return
			}
			if err != nil || len(b.bytes()) != c.want || !bytes.Equal(b.bytes(), tapped.Bytes()) {
				t.Fatalf("%d bytes, %v", len(b.bytes()), err)
			}
			if r.Body != http.NoBody {
				t.Error("a body read to its end counts as unread")
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// deadlines is a ResponseWriter of a connection whose deadlines are seen.
type deadlines struct {
	*httptest.ResponseRecorder
	read, write []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error  { d.read = append(d.read, t); return nil }
func (d *deadlines) SetWriteDeadline(t time.Time) error { d.write = append(d.write, t); return nil }

// Each byte past the first buffers buys the time it takes at the lowest rate, and no more.
func TestALongBodyMayTakeWhatItsLengthNeeds(t *testing.T) {
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	var b body
	defer b.release()
	began := time.Now()
	if err := b.read(w, httptest.NewRequest("POST", "/", io.LimitReader(zeros{}, 4<<20)), 8<<20, nil, [2]*budget{}); err != nil {
		t.Fatal(err)
	}
	if len(w.read) < 60 || len(w.write) != 1 {
		t.Fatalf("%d read deadlines, %d write deadlines", len(w.read), len(w.write))
	}
	for i, at := range w.read[1:] {
		if step := at.Sub(w.read[i]); step <= 0 || step > time.Second {
			t.Fatalf("deadline %d is %s after the last", i+1, step)
		}
	}
	if last := w.read[len(w.read)-1].Sub(began); last < 70*time.Second || last > 80*time.Second {
		t.Errorf("4 MiB may take %s, want 10 s and 64 at 64 KiB/s", last)
	}
	w = &deadlines{ResponseRecorder: httptest.NewRecorder()}
	var small body
	defer small.release()
	if err := small.read(w, httptest.NewRequest("POST", "/", strings.NewReader("{}")), 8<<20, nil, [2]*budget{}); err != nil || len(w.read) > 0 {
		t.Errorf("a small body is given %v, %v", w.read, err)
	}
}

func TestBudgetsAreTakenTogether(t *testing.T) {
	all, own := &budget{limit: 1 << 20}, &budget{limit: 100 << 10}
	var b body
	err := b.read(httptest.NewRecorder(), httptest.NewRequest("POST", "/", io.LimitReader(zeros{}, 1<<20)), 8<<20, nil, [2]*budget{all, own})
	if !errors.Is(err, errBusy) || all.used.Load() != own.used.Load() || own.used.Load() > own.limit {
		t.Errorf("%v, %d and %d bytes", err, all.used.Load(), own.used.Load())
	}
	b.release()
	if all.used.Load() != 0 || own.used.Load() != 0 {
		t.Errorf("%d and %d bytes are not given back", all.used.Load(), own.used.Load())
	}
}
