package app

import (
	"io"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/wxrelay/wxrelay/config"
)

// NewLog makes the log of the config on w. Lines are written together a few times a second, and at once from a warning
// on; level can be changed while running. stop writes what is left.
func NewLog(w io.Writer, c config.Log) (log *zap.Logger, level zap.AtomicLevel, stop func()) {
	enc := zapcore.EncoderConfig{
		TimeKey: "ts", LevelKey: "level", NameKey: "log", MessageKey: "msg", StacktraceKey: "stack",
		EncodeTime: func(t time.Time, e zapcore.PrimitiveArrayEncoder) {
			e.AppendString(t.UTC().Format("2006-01-02T15:04:05.000Z"))
		},
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeDuration: zapcore.SecondsDurationEncoder,
		EncodeName:     zapcore.FullNameEncoder,
	}
	encoder := zapcore.NewJSONEncoder(enc)
	if c.Format == "console" {
		enc.EncodeTime = func(t time.Time, e zapcore.PrimitiveArrayEncoder) { e.AppendString(t.Format("15:04:05.000")) }
		enc.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(enc)
	}
	level = zap.NewAtomicLevel()
	setLevel(level, c.Level)
	// Only its Write: a pipe has no Sync, and zap would complain about that on stderr with every warning.
	out := &zapcore.BufferedWriteSyncer{WS: zapcore.Lock(zapcore.AddSync(struct{ io.Writer }{w})), Size: 64 << 10, FlushInterval: 200 * time.Millisecond}
	log = zap.New(zapcore.NewCore(encoder, out, level), zap.Hooks(func(e zapcore.Entry) error {
		if e.Level >= zapcore.WarnLevel {
			return out.Sync()
		}
		return nil
	}))
	return log, level, func() { _ = out.Stop() }
}

// sampler lets so many lines through in a second, so that an outage does not end in a flood: what is counted in /metrics
// need not be written down ten thousand times.
type sampler struct {
	mu     sync.Mutex
	second int64
	passed int
	held   int64
}

const linesPerSecond = 20

// allow tells whether a line may pass, and how many were held back since the last one that did.
func (v *sampler) allow(now time.Time) (held int64, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s := now.Unix(); s != v.second {
		v.second, v.passed = s, 0
	}
	if v.passed++; v.passed > linesPerSecond {
		v.held++
		return 0, false
	}
	held, v.held = v.held, 0
	return held, true
}

// setLevel takes a level of the config, which has been validated.
func setLevel(l zap.AtomicLevel, name string) {
	if parsed, err := zapcore.ParseLevel(name); err == nil {
		l.SetLevel(parsed)
	}
}
