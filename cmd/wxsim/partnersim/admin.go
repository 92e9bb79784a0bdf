package partnersim

import (
	"encoding/json"
	"net/http"
	"time"
)

// Admin is the partner's own front: GET /events and /deliveries show what came, POST /misbehave {"status":500,"times":3}
// and /behave change its manners, and everything else is its endpoint.
func (p *Partner) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", p)
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, _ *http.Request) { show(w, p.Events()) })
	mux.HandleFunc("GET /deliveries", func(w http.ResponseWriter, _ *http.Request) { show(w, p.Deliveries()) })
	mux.HandleFunc("POST /behave", func(w http.ResponseWriter, _ *http.Request) { p.Behave(); show(w, "ok") })
	mux.HandleFunc("POST /misbehave", func(w http.ResponseWriter, r *http.Request) {
		var b struct {
			Times      int    `json:"times"`
			Type       string `json:"type"`
			Status     int    `json:"status"`
			RetryAfter string `json:"retry_after"`
			Location   string `json:"location"`
			DelayMS    int    `json:"delay_ms"`
			Close      bool   `json:"close"`
			Late       bool   `json:"late"`
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&b); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		p.Misbehave(Behaviour{Times: b.Times, Type: b.Type, Status: b.Status, RetryAfter: b.RetryAfter, Location: b.Location,
			Delay: time.Duration(b.DelayMS) * time.Millisecond, Close: b.Close, Late: b.Late})
		show(w, "ok")
	})
	return mux
}

func show(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the reader went away
}
