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
	log := logFlags{Level: "warn", Format: "auto"}.logger(std.err)
	cfg := queue.Config{Existing: true, Name: "brazier-command", Role: "admin", Log: component(log, "queue")}
	switch {
	case f.Data != "" && f.NatsURL != "":
		return nil, nil, usageError{errors.New("both --data and --nats-url are set, here or by variables: keep one, and empty the other as in --data=")}
	case f.NatsURL != "":
		cfg.URL, cfg.CredentialsFile, cfg.CAFile = f.NatsURL, f.NatsCreds, f.NatsCA
		return connect(ctx, cfg, "--nats-url")
	case f.Data == "" && !embedded.Exists(defaultData):
		return nil, nil, usageError{errors.New("where is the queue? Name its directory with --data, or its NATS servers with --nats-url")}
	}
	dir := cmp.Or(f.Data, defaultData)
	if !embedded.Exists(dir) {
		return nil, nil, usageError{fmt.Errorf("--data: %s holds no queue", dir)}
	}
	q, close, err = openDirectory(ctx, dir, cfg, log)
	if errors.Is(err, os.ErrPermission) {
		err = usageError{fmt.Errorf("--data: %w: run this as the user who serves", err)}
	}
	return q, close, err
}

// openDirectory connects to the server that has the directory, or starts one for as long as the command takes.
func openDirectory(ctx context.Context, dir string, cfg queue.Config, log *zap.Logger) (*queue.Queue, func(), error) {
	srv, err := embedded.Start(embedded.Config{Dir: dir, Log: component(log, "nats")})
	if errors.Is(err, embedded.ErrInUse) {
		if cfg.URL, err = awaitAddress(ctx, dir); err != nil {
			return nil, nil, err
		}
		return connect(ctx, cfg, "--data")
	}
	if err != nil {
		return nil, nil, err
	}
	cfg.InProcess = srv
	q, disconnect, err := connect(ctx, cfg, "--data")
	if err != nil {
		_ = srv.Close() // the error that brought us here is the one to tell
		return nil, nil, err
	}
	return q, func() {
		disconnect()
		if err := srv.Close(); err != nil {
			log.Error("part did not close cleanly", zap.String("event", "close_error"), zap.String("part", "JetStream"), zap.Error(err))
		}
	}, nil
}

func connect(ctx context.Context, cfg queue.Config, flag string) (*queue.Queue, func(), error) {
	try, cancel := context.WithTimeout(ctx, accessTimeout)
	defer cancel()
	q, err := queue.Open(try, cfg)
	switch {
	case errors.Is(err, queue.ErrNoQueue):
		return nil, nil, usageError{fmt.Errorf("%s: %w: nothing of Brazier's ever ran there", flag, err)}
	case err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		return nil, nil, fmt.Errorf("%s: no NATS server answered within %v", flag, accessTimeout)
	case err != nil:
		return nil, nil, fmt.Errorf("%s: %w", flag, err)
	}
	return q, q.Close, nil
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
