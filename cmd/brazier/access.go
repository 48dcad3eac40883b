package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
)

// accessFlags say where the queue is, for commands that look into one that other processes may be running.
type accessFlags struct {
	Data      string `name:"data" group:"queue" placeholder:"DIR" help:"Directory of \"brazier serve\", running or not. Default: brazier-data, where that is a queue's. If it is not running, nobody else can have the directory until this command has ended; run it as the user who serves."`
	NatsURL   string `name:"nats-url" group:"queue" placeholder:"URL,…" help:"NATS servers of \"brazier ingress\" and \"brazier worker\", in place of --data. Where both are set by variables, empty the other one."`
	NatsCreds string `name:"nats-creds" type:"path" group:"queue" help:"Credentials file for NATS."`
	NatsCA    string `name:"nats-ca" type:"path" group:"queue" help:"PEM file with the authority of the NATS servers' certificates."`
}

// defaultData is where serve has its queue unless it is told otherwise.
const defaultData = "brazier-data"

// accessTimeout is how long a server may take to be there. A process that is about to have the directory, or a cluster
// that elects a leader, gets that long.
const accessTimeout = 20 * time.Second

// open connects to the queue. It makes none. The caller calls close when it is done with it.
func (f accessFlags) open(ctx context.Context, std stdio) (q *queue.Queue, close func(), err error) {
	return f.openFor(ctx, std, queue.Config{})
}

// openFor is open, with more settings.
func (f accessFlags) openFor(ctx context.Context, std stdio, cfg queue.Config) (q *queue.Queue, close func(), err error) {
	at, release, err := f.find(ctx, std, cfg)
	if err != nil {
		return nil, nil, err
	}
	at.cfg.Existing = true
	err = at.within(ctx, func(ctx context.Context) (err error) {
		q, err = queue.Open(ctx, at.cfg)
		return err
	})
	if err != nil {
		release()
		if errors.Is(err, queue.ErrNoQueue) {
			err = usageError{fmt.Errorf("%w: nothing of Brazier's ever ran there", err)}
		}
		return nil, nil, err
	}
	return q, func() { q.Close(); release() }, nil
}

// location is where a queue is found, under the flag that says so.
type location struct {
	cfg  queue.Config
	flag string
}

// within calls with the time that a server may take, and puts errors in words.
func (at location) within(ctx context.Context, call func(context.Context) error) error {
	try, cancel := context.WithTimeout(ctx, accessTimeout)
	defer cancel()
	err := call(try)
	switch {
	case err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: no NATS server answered within %v", at.flag, accessTimeout)
	case err != nil:
		return fmt.Errorf("%s: %w", at.flag, err)
	}
	return nil
}

// find completes the settings with where the queue is. Where no process has the directory, it starts a server on it, until
// the caller calls release.
func (f accessFlags) find(ctx context.Context, std stdio, cfg queue.Config) (at location, release func(), err error) {
	log := logFlags{Level: "warn", Format: "auto"}.logger(std.err)
	cfg.Name, cfg.Role, cfg.Log = "brazier-command", "admin", component(log, "queue")
	switch {
	case f.Data != "" && f.NatsURL != "":
		return at, nil, usageError{errors.New("both --data and --nats-url are set, here or by variables: keep one, and empty the other as in --data=")}
	case f.NatsURL != "":
		cfg.URL, cfg.CredentialsFile, cfg.CAFile = f.NatsURL, f.NatsCreds, f.NatsCA
		return location{cfg, "--nats-url"}, func() {}, nil
	case f.Data == "" && !embedded.Exists(defaultData):
		return at, nil, usageError{errors.New("where is the queue? Name its directory with --data, or its NATS servers with --nats-url")}
	}
	dir := cmp.Or(f.Data, defaultData)
	if !embedded.Exists(dir) {
		return at, nil, usageError{fmt.Errorf("--data: %s holds no queue", dir)}
	}
	release, err = serveDirectory(ctx, dir, &cfg, log)
	if errors.Is(err, os.ErrPermission) {
		err = usageError{fmt.Errorf("--data: %w: run this as the user who serves", err)}
	}
	return location{cfg, "--data"}, release, err
}

// serveDirectory finds the server that has the directory, or starts one for as long as the command takes.
func serveDirectory(ctx context.Context, dir string, cfg *queue.Config, log *zap.Logger) (release func(), err error) {
	srv, err := embedded.Start(embedded.Config{Dir: dir, Log: component(log, "nats")})
	if errors.Is(err, embedded.ErrInUse) {
		cfg.URL, err = awaitAddress(ctx, dir)
		return func() {}, err
	}
	if err != nil {
		return nil, err
	}
	cfg.InProcess = srv
	return func() {
		if err := srv.Close(); err != nil {
			log.Error("part did not close cleanly", zap.String("event", "close_error"), zap.String("part", "JetStream"), zap.Error(err))
		}
	}, nil
}

// awaitAddress waits for the process that has the directory to say where its server is.
func awaitAddress(ctx context.Context, dir string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, accessTimeout)
	defer cancel()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		url, err := embedded.Address(dir)
		if !errors.Is(err, embedded.ErrNoServer) {
			return url, err
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return "", fmt.Errorf("--data: a process has %s and is not open yet: try again", dir)
		}
	}
}
