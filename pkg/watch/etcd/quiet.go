package etcd

import (
	"io"
	"log/slog"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/grpclog"
)

// gRPC writes to stderr on its own, past every logger; what matters of it comes back as errors. It allows for another
// logger only before it is first used.
func init() {
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
}

// quiet hands on what etcd's client logs of warnings and errors, at debug level: what they come to is told by errors.
func quiet(log *slog.Logger) *zap.Logger { return zap.New(core{log}) }

// core is a zapcore.Core that ends in slog.
type core struct{ log *slog.Logger }

func (c core) Enabled(level zapcore.Level) bool { return level >= zapcore.WarnLevel }

func (c core) With(fields []zapcore.Field) zapcore.Core {
	return core{c.log.With(arguments(fields)...)}
}

func (c core) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

func (c core) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	c.log.Debug("etcd client: "+entry.Message, arguments(fields)...)
	return nil
}

func (c core) Sync() error { return nil }

func arguments(fields []zapcore.Field) (arguments []any) {
	encoder := zapcore.NewMapObjectEncoder()
	for _, field := range fields {
		field.AddTo(encoder)
	}
	for key, value := range encoder.Fields {
		arguments = append(arguments, slog.Any(key, value))
	}
	return arguments
}
