// Package admin holds the commands that a person uses beside a running Brazier: campaign, deadletters, pages, people, setup, status, trace and
// webhook.
//
// They work on the queue alone, wherever it is, and whether or not anything runs: what they change is seen by all workers. Only webhook
// calls Facebook instead.
// Times are the server's, never this machine's. What would change or remove something says first what it is about, and does
// it for a person who confirms it or for --yes alone. Message texts and full recipient ids are printed only where asked for.
package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/brazier-relay/brazier/cmd/brazier/cli"
	"github.com/brazier-relay/brazier/cmd/brazier/process"
	"github.com/brazier-relay/brazier/queue"
	"github.com/brazier-relay/brazier/queue/embedded"
)

// accessFlags say where the queue is, for commands that look into one that other processes may be running.
type accessFlags struct {
	Data    string `name:"data" group:"queue" placeholder:"DIR" help:"Directory of \"brazier serve\", whether it runs or not. If it does not, this command locks the directory until it ends. Run it as the same user as serve. Default: brazier-data, if it holds a queue."`
	NatsURL string `name:"nats-url" group:"queue" placeholder:"URL,…" help:"URLs of the NATS servers of \"brazier ingress\" and \"brazier worker\", instead of --data. If variables set both, set one of them to the empty string."`
	process.DataKeyFlags
	process.NATSCredentialFlags
}

// defaultData is where serve has its queue unless it is told otherwise.
const defaultData = "brazier-data"

// accessTimeout is how long a server may take to be there. A process that is about to have the directory, or a cluster
// that elects a leader, gets that long.
const accessTimeout = 20 * time.Second

// open connects to the queue. It makes none. The caller calls close when it is done with it.
func (f accessFlags) open(ctx context.Context, std cli.Stdio) (q *queue.Queue, close func(), err error) {
	return f.openFor(ctx, std, queue.Config{})
}

// openFor is open, with more settings.
func (f accessFlags) openFor(ctx context.Context, std cli.Stdio, cfg queue.Config) (q *queue.Queue, close func(), err error) {
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
			err = cli.Usagef("%w: nothing of Brazier's ever ran there", err)
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

// within calls with the time that a server may take, and explains errors.
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
func (f accessFlags) find(ctx context.Context, std cli.Stdio, cfg queue.Config) (at location, release func(), err error) {
	log := cli.LogFlags{Level: "warn", Format: "auto"}.Logger(std.Err)
	cfg.Name, cfg.Role, cfg.Log = "brazier-command", "admin", cli.Component(log, "queue")
	switch {
	case f.Data != "" && f.NatsURL != "":
		return at, nil, cli.Usagef("both --data and --nats-url are set, here or by variables: keep one, and empty the other as in --data=")
	case f.NatsURL != "":
		if err := (process.NATSFlags{NatsURL: f.NatsURL, NATSCredentialFlags: f.NATSCredentialFlags}).Faults(); err != nil {
			return at, nil, cli.Usage(err)
		}
		cfg.URL, cfg.Credentials = f.NatsURL, f.Credentials()
		return location{cfg, "--nats-url"}, func() {}, nil
	case f.Data == "" && !embedded.Exists(defaultData):
		return at, nil, cli.Usagef("where is the queue? Name its directory with --data, or its NATS servers with --nats-url")
	}
	dir := cmp.Or(f.Data, defaultData)
	if !embedded.Exists(dir) {
		return at, nil, cli.Usagef("--data: %s holds no queue", dir)
	}
	key, err := f.Key()
	if err != nil {
		return at, nil, cli.Usage(err)
	}
	release, err = serveDirectory(ctx, embedded.Config{Dir: dir, Key: key, Log: cli.Component(log, "nats")}, &cfg, log)
	if errors.Is(err, os.ErrPermission) {
		err = cli.Usagef("--data: %w: run this as the user who serves", err)
	}
	return location{cfg, "--data"}, release, err
}

// serveDirectory finds the server that has the directory, or starts one for as long as the command takes.
func serveDirectory(ctx context.Context, data embedded.Config, cfg *queue.Config, log *zap.Logger) (release func(), err error) {
	srv, err := embedded.Start(data)
	if errors.Is(err, embedded.ErrInUse) {
		cfg.URL, err = awaitAddress(ctx, data.Dir)
		return func() {}, err
	}
	if errors.Is(err, os.ErrPermission) {
		return nil, err // the caller has the remedy
	}
	if err != nil {
		return nil, process.DataInFlags(err)
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
