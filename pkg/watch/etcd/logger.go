package etcd

import (
	"io"
	"log/slog"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc/grpclog"
)

// gRPC has a global logger that writes to stderr. Its messages are discarded, because relevant failures are also
// returned as errors. The logger can be replaced only before gRPC is first used.
func init() {
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
}

// clientLogger passes warnings and errors of etcd's client to log at debug level. Failures that matter are also
// returned as errors.
func clientLogger(log *slog.Logger) *zap.Logger { return zap.New(slogCore{log}) }

// slogCore is a zapcore.Core that writes to slog.
type slogCore struct{ log *slog.Logger }

func (c slogCore) Enabled(level zapcore.Level) bool { return level >= zapcore.WarnLevel }

func (c slogCore) With(fields []zapcore.Field) zapcore.Core {
	return slogCore{c.log.With(arguments(fields)...)}
}

func (c slogCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

func (c slogCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	c.log.Debug("etcd client: "+entry.Message, arguments(fields)...)
	return nil
}

func (c slogCore) Sync() error { return nil }

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
