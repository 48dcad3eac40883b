package cli

import (
	"io"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"
)

// LogFlags are the settings of a role's log. Its events are catalogued in deploy/LOGS.md.
type LogFlags struct {
	Level  string `name:"log-level" default:"info" enum:"debug,info,warn,error" group:"log" help:"Lowest level to log: debug, info, warn or error. debug logs every accepted message."`
	Format string `name:"log-format" default:"auto" enum:"json,console,auto" group:"log" help:"Format: json, console, or auto (console on a terminal, json elsewhere)."`
	Keys   string `name:"log-keys" default:"default" enum:"default,ecs,gcp,datadog" group:"log" help:"Keys of JSON lines: default, or those that Elastic (ecs), Google Cloud (gcp) or Datadog take without configuration."`
}

// Logger writes to w, one line per event.
func (f LogFlags) Logger(w io.Writer) *zap.Logger {
	level, _ := zapcore.ParseLevel(f.Level) // the flag's enum leaves nothing else
	core := zapcore.NewCore(f.encoder(w), zapcore.Lock(zapcore.AddSync(w)), level)
	if f.JSON(w) {
		core = f.dialect().core(core)
	}
	return zap.New(core)
}

// JSON reports whether programs read what is logged to w, rather than people.
func (f LogFlags) JSON(w io.Writer) bool {
	return f.Format == "json" || (f.Format != "console" && !IsTerminal(w))
}

// dialect is the default one where the flag has a value that it may not have: a line is to say so.
func (f LogFlags) dialect() dialect {
	if d, ok := dialects[f.Keys]; ok {
		return d
	}
	return dialects[defaultKeys]
}

const defaultKeys = "default"

func (f LogFlags) encoder(w io.Writer) zapcore.Encoder {
	keys := f.dialect()
	config := zapcore.EncoderConfig{
		TimeKey: keys.time, LevelKey: keys.level, MessageKey: keys.message,
		EncodeTime:     zapcore.RFC3339NanoTimeEncoder,
		EncodeLevel:    keys.encodeLevel,
		EncodeDuration: zapcore.StringDurationEncoder,
		LineEnding:     zapcore.DefaultLineEnding,
	}
	if f.JSON(w) {
		return zapcore.NewJSONEncoder(config)
	}
	config.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
	config.EncodeLevel = zapcore.CapitalLevelEncoder
	config.ConsoleSeparator = "  "
	return zapcore.NewConsoleEncoder(config)
}

// IsTerminal reports whether a person sees what is written to w.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Component adds the name of the package that a line comes from.
func Component(log *zap.Logger, name string) *zap.Logger {
	return log.With(zap.String("component", name))
}
