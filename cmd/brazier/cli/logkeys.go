package cli

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// dialect is how a collector of logs wants the keys of JSON lines, so that it takes time, level and text without configuration, and
// no key of ours has a meaning of its own there. Key names that are not renamed are those of the catalogue.
type dialect struct {
	time, level, message string
	encodeLevel          zapcore.LevelEncoder
	renamed              map[string]string
	with                 []zapcore.Field
}

// dialects are the dialects by the value of --log-keys.
var dialects = map[string]dialect{
	"default": {time: "ts", level: "level", message: "msg", encodeLevel: zapcore.LowercaseLevelEncoder},
	// Elastic Common Schema: event, error, host, user and file are objects there, and a line in which they are text is not indexed
	// (ECS reference, field reference; ECS logging specification).
	"ecs": {time: "@timestamp", level: "log.level", message: "message", encodeLevel: zapcore.LowercaseLevelEncoder,
		renamed: map[string]string{"event": "event.action", "error": "error.message", "stack": "error.stack_trace", "host": "server.address",
			"user": "user.id", "file": "file.path", "component": "log.logger"},
		with: []zapcore.Field{zap.String("ecs.version", "8.11.0")}},
	// Google Cloud: severity has names of its own, and Error Reporting reads stack_trace (Cloud Logging, structured logging).
	"gcp": {time: "time", level: "severity", message: "message", encodeLevel: severity, renamed: map[string]string{"stack": "stack_trace"}},
	// Datadog: status is the level, host the machine, error an object (Log configuration, preprocessing; standard attributes).
	"datadog": {time: "timestamp", level: "status", message: "message", encodeLevel: zapcore.LowercaseLevelEncoder,
		renamed: map[string]string{"status": "http.status_code", "host": "http.url_details.host", "error": "error.message", "stack": "error.stack",
			"user": "usr.id", "component": "logger.name"}},
}

// severity encodes a level as Google Cloud names it.
func severity(l zapcore.Level, to zapcore.PrimitiveArrayEncoder) {
	word := l.CapitalString()
	switch l {
	case zapcore.WarnLevel:
		word = "WARNING"
	case zapcore.DPanicLevel, zapcore.PanicLevel, zapcore.FatalLevel:
		word = "CRITICAL"
	}
	to.AppendString(word)
}

// core returns a core whose fields have the names of the dialect.
func (d dialect) core(inner zapcore.Core) zapcore.Core {
	if len(d.renamed) == 0 {
		return inner
	}
	return renaming{inner.With(d.with), d.renamed}
}

// renaming is a core that gives fields other keys.
type renaming struct {
	zapcore.Core
	names map[string]string
}

func (c renaming) With(fields []zapcore.Field) zapcore.Core {
	return renaming{c.Core.With(c.rename(fields)), c.names}
}

func (c renaming) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(entry.Level) {
		return checked
	}
	return checked.AddCore(entry, c)
}

func (c renaming) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	return c.Core.Write(entry, c.rename(fields))
}

// rename returns the fields with other keys. It leaves fields as they are: they are the caller's.
func (c renaming) rename(fields []zapcore.Field) []zapcore.Field {
	to := make([]zapcore.Field, len(fields))
	for i, f := range fields {
		if name, ok := c.names[f.Key]; ok {
			f.Key = name
		}
		to[i] = f
	}
	return to
}
