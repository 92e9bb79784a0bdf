package app

import (
	"io"
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
		EncodeDuration: zapcore.StringDurationEncoder,
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
	out := &zapcore.BufferedWriteSyncer{WS: zapcore.Lock(zapcore.AddSync(w)), Size: 64 << 10, FlushInterval: 200 * time.Millisecond}
	log = zap.New(zapcore.NewCore(encoder, out, level), zap.Hooks(func(e zapcore.Entry) error {
		if e.Level >= zapcore.WarnLevel {
			return out.Sync()
		}
		return nil
	}))
	return log, level, func() { _ = out.Stop() }
}

// setLevel takes a level of the config, which has been validated.
func setLevel(l zap.AtomicLevel, name string) {
	if parsed, err := zapcore.ParseLevel(name); err == nil {
		l.SetLevel(parsed)
	}
}
