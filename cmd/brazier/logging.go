package main

import (
	"io"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"
)

// logFlags are the settings of the log. Its events are catalogued in deploy/LOGS.md.
type logFlags struct {
	Level  string `name:"log-level" default:"info" enum:"debug,info,warn,error" group:"log" help:"Least level that is logged: debug, info, warn or error. debug has a line for each accepted message."`
	Format string `name:"log-format" default:"auto" enum:"json,console,auto" group:"log" help:"json, console, or auto: console on a terminal, else json."`
}

// logger writes to w, one line per event.
func (f logFlags) logger(w io.Writer) *zap.Logger {
	level, _ := zapcore.ParseLevel(f.Level) // the flag's enum leaves nothing else
	return zap.New(zapcore.NewCore(f.encoder(w), zapcore.Lock(zapcore.AddSync(w)), level))
}

// json reports whether programs read what is logged to w, rather than people.
func (f logFlags) json(w io.Writer) bool {
	return f.Format == "json" || (f.Format != "console" && !isTerminal(w))
}

func (f logFlags) encoder(w io.Writer) zapcore.Encoder {
	config := zapcore.EncoderConfig{
		TimeKey: "ts", LevelKey: "level", MessageKey: "msg",
		EncodeTime:     zapcore.RFC3339NanoTimeEncoder,
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeDuration: zapcore.StringDurationEncoder,
		LineEnding:     zapcore.DefaultLineEnding,
	}
	if f.json(w) {
		return zapcore.NewJSONEncoder(config)
	}
	config.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
	config.EncodeLevel = zapcore.CapitalLevelEncoder
	config.ConsoleSeparator = "  "
	return zapcore.NewConsoleEncoder(config)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// component names the room that a line comes from.
func component(log *zap.Logger, name string) *zap.Logger {
	return log.With(zap.String("component", name))
}
