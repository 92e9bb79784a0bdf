// Command bench measures the two hot paths of the product beside a bare Gin handler, in one run on one machine, and prints
// ratios: absolute figures of a shared machine say little, a ratio of the same minute says much.
//
//	go run ./scripts/bench                 every case, medians of 5 interleaved runs
//	go run ./scripts/bench -only ingest    one family: ingest, sends, drain
//	go run ./scripts/bench -fsync always   Redis' AOF synced before every answer
//
// Gateway, Redis and the bare handler are processes of their own, so that the kernel accounts for the CPU time of each;
// the load comes from this process and shares the cores with them. All of it is on loopback and stops by itself.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

type options struct {
	runs    int
	seconds float64
	conns   int
	rate    int
	only    string
	fsync   string
	asJSON  bool
	drain   int
	profile string
}

func main() {
	var o options
	role := flag.String("role", "", "internal: run as this part of the measurement")
	redisURL := flag.String("redis", "", "internal: of a role")
	wechatURL := flag.String("wechat", "", "internal: of a role")
	bodies := flag.String("bodies", "", "internal: of a role")
	flag.IntVar(&o.runs, "runs", 5, "interleaved runs of every case")
	flag.Float64Var(&o.seconds, "seconds", 3, "of load in one run of a case")
	flag.IntVar(&o.conns, "conns", 64, "connections")
	flag.IntVar(&o.rate, "rate", 2000, "requests a second of the open loop that measures p99")
	flag.StringVar(&o.only, "only", "", "one family: ingest, sends or drain; empty = all")
	flag.StringVar(&o.fsync, "fsync", "everysec", "Redis' appendfsync: everysec or always")
	flag.BoolVar(&o.asJSON, "json", false, "print the figures as JSON too")
	flag.IntVar(&o.drain, "messages", 20000, "messages of the drain")
	flag.StringVar(&o.profile, "profile", "", "folder for a CPU profile of each case, taken while it runs")
	flag.Parse()
	var err error
	switch *role {
	case "":
		err = measure(o)
	case "bare":
		err = runBare()
	case "taker":
		err = runGateway(*redisURL, *wechatURL, false)
	case "plain":
		err = runPlain(*wechatURL, *bodies)
	case "gateway":
		err = runGateway(*redisURL, *wechatURL, true)
	default:
		err = fmt.Errorf("unknown role %q", *role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// figure is one run of one case.
type figure struct {
	PerSecond float64       `json:"per_second"`
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"` // of the closed loop
	OpenP99   time.Duration `json:"open_p99_ns"`
	Gateway   float64       `json:"cpu_gateway_per_100k"` // CPU-seconds
	Redis     float64       `json:"cpu_redis_per_100k"`
	Refused   int           `json:"refused"`
}

// report is every run of every case, in the order measured.
type report struct {
	order []string
	runs  map[string][]figure
}

func (r *report) add(name string, f figure) {
	if _, ok := r.runs[name]; !ok {
		r.order = append(r.order, name)
	}
	r.runs[name] = append(r.runs[name], f)
}

func (r *report) median(name string, of func(figure) float64) float64 {
	var v []float64
	for _, f := range r.runs[name] {
		v = append(v, of(f))
	}
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[len(v)/2]
}

func measure(o options) error {
	dir, err := os.MkdirTemp("", "wxrelay-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Printf("go %s, %d cores, %d connections, %d runs of %.1fs, appendfsync %s\n", strings.TrimPrefix(runtime.Version(), "go"), runtime.NumCPU(), o.conns, o.runs, o.seconds, o.fsync)
	rep := &report{runs: map[string][]figure{}}
	all := o.only == ""
	if all || o.only == "ingest" || o.only == "sends" {
		if err := paths(o, filepath.Join(dir, "paths"), rep); err != nil {
			return err
		}
		rep.print(o)
	}
	if all || o.only == "drain" {
		if err := drain(o, filepath.Join(dir, "drain")); err != nil {
			return err
		}
	}
	if o.asJSON {
		return json.NewEncoder(os.Stdout).Encode(rep.runs)
	}
	return nil
}

// print shows medians, and ratios against the bare handler of the same run.
func (r *report) print(o options) {
	ratio := func(name, of string, f func(figure) float64) float64 {
		if b := r.median(of, f); b != 0 {
			return r.median(name, f) / b
		}
		return 0
	}
	rps := func(f figure) float64 { return f.PerSecond }
	cpu := func(f figure) float64 { return f.Gateway + f.Redis }
	p99 := func(f figure) float64 { return float64(f.OpenP99) }
	fmt.Printf("\n%-26s %10s %7s %9s %9s %8s %8s %7s %10s %7s\n", "case", "req/s", "of bare", "p50", "p99", "cpu gw", "cpu rds", "x bare", fmt.Sprintf("p99@%d/s", o.rate), "x bare")
	for _, name := range r.order {
		fmt.Printf("%-26s %10.0f %7.2f %9s %9s %8.2f %8.2f %7.2f %10s %7.2f\n", name, r.median(name, rps), ratio(name, bareCase, rps),
			time.Duration(r.median(name, func(f figure) float64 { return float64(f.P50) })).Round(10*time.Microsecond),
			time.Duration(r.median(name, func(f figure) float64 { return float64(f.P99) })).Round(10*time.Microsecond),
			r.median(name, func(f figure) float64 { return f.Gateway }), r.median(name, func(f figure) float64 { return f.Redis }),
			ratio(name, bareCase, cpu), time.Duration(r.median(name, p99)).Round(10*time.Microsecond), ratio(name, bareCase, p99))
	}
	fmt.Println("cpu: CPU-seconds per 100,000 requests; medians; a ratio within 10 % is noise")
	if len(r.runs[duplicateCase]) > 0 {
		redis := func(f figure) float64 { return f.Redis }
		fmt.Printf("a duplicate costs Redis %.2f of a new push\n", ratio(duplicateCase, "ingest, sealed XML", redis))
	}
}
