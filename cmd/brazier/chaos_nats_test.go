package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/brazier-relay/brazier/queue"
)

// natsServer is a nats-server process and its monitoring.
type natsServer struct {
	*member
	address string
	monitor string // its address
	probes  *http.Client
}

// addNATS adds servers to the fleet: one, or several that make a cluster.
func (c *chaos) addNATS(many int) (servers []*natsServer) {
	var routes []string
	for range many {
		routes = append(routes, stableAddress(c.t))
	}
	for i := range many {
		s := &natsServer{address: stableAddress(c.t), monitor: stableAddress(c.t), probes: c.probes}
		sync := "100ms" // as brazier serve with --sync interval
		if *chaosSync == "always" {
			sync = "always"
		}
		var config strings.Builder
		fmt.Fprintf(&config, "server_name: nats-%d\nlisten: %q\nhttp: %q\njetstream { store_dir: %q, sync_interval: %q }\n",
			i+1, s.address, s.monitor, c.t.TempDir(), sync)
		if many > 1 {
			fmt.Fprintf(&config, "cluster { name: chaos, listen: %q, routes: [", routes[i])
			for _, route := range routes {
				fmt.Fprintf(&config, "%q, ", "nats-route://"+route)
			}
			config.WriteString("] }\n")
			// The defaults of the Helm chart of NATS.
			config.WriteString("lame_duck_duration: 30s\nlame_duck_grace_period: 10s\n")
		}
		path := filepath.Join(c.t.TempDir(), "nats.conf")
		if err := os.WriteFile(path, []byte(config.String()), 0o600); err != nil {
			c.t.Fatal(err)
		}
		s.member = c.fleet.add(c.t, "nats", "nats-server", "-c", path)
		servers = append(servers, s)
	}
	return servers
}

// healthy reports whether the server has caught up with all it holds.
func (s *natsServer) healthy() bool { return answersOK(s.probes, "http://"+s.monitor+"/healthz") }

func answersOK(client *http.Client, url string) bool {
	resp, err := client.Get(url)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// jetStream calls ask with a connection to the mode's NATS servers. Whatever goes wrong within apiTimeout is its error.
func (c *chaos) jetStream(ask func(ctx context.Context, js jetstream.JetStream) error) error {
	const apiTimeout = 5 * time.Second
	url, err := c.mode.natsURL()
	if err != nil {
		return err
	}
	closed := make(chan struct{})
	nc, err := nats.Connect(url, nats.Timeout(time.Second), nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	if err != nil {
		return err
	}
	defer func() { nc.Close(); <-closed }()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), apiTimeout)
	defer cancel()
	return ask(ctx, js)
}

// leader returns the name of the server that leads the stream of jobs, once one does.
func (c *chaos) leader() (name string) {
	c.t.Helper()
	eventually(c.t, "the stream of jobs has a leader", func() bool {
		err := c.jetStream(func(ctx context.Context, js jetstream.JetStream) error {
			stream, err := js.Stream(ctx, queue.StreamJobs) // its leader answers
			if err == nil {
				name = stream.CachedInfo().Cluster.Leader
			}
			return err
		})
		return err == nil && name != ""
	})
	return name
}

// led returns an error unless the streams of jobs and of records, and each consumer of the jobs, has a leader. A single
// server leads what it has.
func led(ctx context.Context, js jetstream.JetStream) error {
	leads := func(what string, cluster *jetstream.ClusterInfo) error {
		if cluster != nil && cluster.Leader == "" {
			return fmt.Errorf("%s has no leader", what)
		}
		return nil
	}
	var stream jetstream.Stream
	for _, name := range []string{queue.StreamRecords, queue.StreamJobs} {
		var err error
		if stream, err = js.Stream(ctx, name); err != nil { // its leader answers
			return fmt.Errorf("stream %s: %w", name, err)
		}
		if err := leads("stream "+name, stream.CachedInfo().Cluster); err != nil {
			return err
		}
	}
	var names []string
	list := stream.ConsumerNames(ctx)
	for name := range list.Name() {
		names = append(names, name)
	}
	if err := list.Err(); err != nil {
		return err
	}
	for _, name := range names {
		consumer, err := stream.Consumer(ctx, name) // its leader answers
		if err != nil {
			return fmt.Errorf("consumer %s: %w", name, err)
		}
		if err := leads("consumer "+name, consumer.CachedInfo().Cluster); err != nil {
			return err
		}
	}
	return nil
}

// awaitLed returns when all that [led] asks for has a leader.
func (c *chaos) awaitLed() error {
	const bound = time.Minute // six elections in a row
	deadline := time.Now().Add(bound)
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		err := c.jetStream(led)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		<-poll.C
	}
}

// idle reports whether no job is left in the stream. The stream's leader answers, not a replica that lags.
func (c *chaos) idle() bool {
	const errCodeNoMessage = 10037
	var answer struct{ Error *jetstream.APIError }
	err := c.jetStream(func(ctx context.Context, js jetstream.JetStream) error {
		msg, err := js.Conn().RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+queue.StreamJobs, []byte(`{"seq":1,"next_by_subj":"brazier.jobs.>"}`))
		if err == nil {
			err = json.Unmarshal(msg.Data, &answer)
		}
		return err
	})
	return err == nil && answer.Error != nil && answer.Error.ErrorCode == errCodeNoMessage
}

// deadLetters reads the ids of all dead letters.
func (c *chaos) deadLetters() map[string]bool {
	c.t.Helper()
	ids := map[string]bool{}
	err := c.jetStream(func(ctx context.Context, js jetstream.JetStream) error {
		stream, err := js.Stream(ctx, queue.StreamDead)
		if err != nil {
			return err
		}
		state := stream.CachedInfo().State
		for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
			msg, err := stream.GetMsg(c.t.Context(), seq)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			ids[msg.Header.Get("Brazier-Id")] = true
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return ids
}
