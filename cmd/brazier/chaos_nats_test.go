package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/brazier-relay/brazier/queue"
)

// natsServer is a nats-server process and its monitoring.
type natsServer struct {
	*member
	address string
	monitor string // URL
	client  *http.Client
}

// addNATS adds servers to the fleet: one, or several that make a cluster.
func (c *chaos) addNATS(many int) (servers []*natsServer) {
	var routes []string
	for range many {
		routes = append(routes, stableAddress(c.t))
	}
	client := &http.Client{}
	c.t.Cleanup(client.CloseIdleConnections)
	for i := range many {
		s := &natsServer{address: stableAddress(c.t), monitor: stableAddress(c.t), client: client}
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

// jobs is what one server knows of the stream of jobs.
type jobs struct {
	Name    string
	Cluster struct{ Leader string }
	// Consumers are those of the page's lanes, which hold all that is not settled.
	Consumers []struct {
		Name          string
		NumAckPending int `json:"num_ack_pending"`
		NumPending    int `json:"num_pending"`
		Cluster       struct{ Leader string }
	} `json:"consumer_detail"`
}

// jobs asks a server for the stream of jobs. ok is false where the server is down or has none.
func (s *natsServer) jobs() (found jobs, ok bool) {
	var info struct {
		Accounts []struct {
			Streams []jobs `json:"stream_detail"`
		} `json:"account_details"`
	}
	resp, err := s.client.Get("http://" + s.monitor + "/jsz?consumers=true")
	if err != nil {
		return jobs{}, false
	}
	defer resp.Body.Close()
	if json.NewDecoder(resp.Body).Decode(&info) != nil {
		return jobs{}, false
	}
	for _, account := range info.Accounts {
		for _, stream := range account.Streams {
			if stream.Name == queue.StreamJobs {
				return stream, true
			}
		}
	}
	return jobs{}, false
}

// healthy reports whether the server has caught up with all it holds.
func (s *natsServer) healthy() bool {
	resp, err := s.client.Get("http://" + s.monitor + "/healthz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// leader returns the server that says of itself that it leads the stream of jobs. The others may still name a dead one.
func leader(t *testing.T, servers []*natsServer) (leads *natsServer) {
	t.Helper()
	eventually(t, "the stream of jobs has a leader", func() bool {
		for _, s := range servers {
			if stream, ok := s.jobs(); ok && stream.Cluster.Leader == s.name {
				leads = s
			}
		}
		return leads != nil
	})
	return leads
}

// idle reports whether no consumer has anything left, each asked where it is led.
func idle(servers []*natsServer) bool {
	asked := map[string]bool{} // by consumer: whether its leader was
	for _, s := range servers {
		stream, ok := s.jobs()
		if !ok {
			return false
		}
		for _, consumer := range stream.Consumers {
			if led := consumer.Cluster.Leader; led != "" && led != s.name {
				if !asked[consumer.Name] {
					asked[consumer.Name] = false
				}
				continue
			}
			if consumer.NumPending+consumer.NumAckPending > 0 {
				return false
			}
			asked[consumer.Name] = true
		}
	}
	for _, itself := range asked {
		if !itself {
			return false
		}
	}
	return len(asked) > 0
}

// deadLetters reads the ids of all dead letters.
func deadLetters(t *testing.T, address string, options ...nats.Option) map[string]bool {
	t.Helper()
	closed := make(chan struct{})
	nc, err := nats.Connect(address, append(options, nats.ClosedHandler(func(*nats.Conn) { close(closed) }))...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { nc.Close(); <-closed }()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), queue.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	state := stream.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		msg, err := stream.GetMsg(t.Context(), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		ids[msg.Header.Get("Brazier-Id")] = true
	}
	return ids
}
