package queue

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Whether a stream can store anything, by what its leader says of the others.
func TestLed(t *testing.T) {
	const now, long = 300 * time.Millisecond, replicaSilence + time.Second
	peer := func(offline bool, active time.Duration) *jetstream.PeerInfo {
		return &jetstream.PeerInfo{Offline: offline, Active: active}
	}
	for _, c := range []struct {
		name    string
		cluster *jetstream.ClusterInfo
		ready   bool
	}{
		{"a single server", nil, true},
		{"one replica on a cluster", &jetstream.ClusterInfo{Leader: "n1"}, true},
		{"no leader", &jetstream.ClusterInfo{Replicas: []*jetstream.PeerInfo{peer(false, now), peer(false, now)}}, false},
		{"all there", &jetstream.ClusterInfo{Leader: "n1", Replicas: []*jetstream.PeerInfo{peer(false, now), peer(false, now)}}, true},
		{"one gone", &jetstream.ClusterInfo{Leader: "n1", Replicas: []*jetstream.PeerInfo{peer(true, now), peer(false, now)}}, true},
		{"two gone", &jetstream.ClusterInfo{Leader: "n1", Replicas: []*jetstream.PeerInfo{peer(true, now), peer(true, now)}}, false},
		{"one gone, one replicaSilence", &jetstream.ClusterInfo{Leader: "n1", Replicas: []*jetstream.PeerInfo{peer(true, now), peer(false, long)}}, false},
		{"two of five gone", &jetstream.ClusterInfo{Leader: "n1",
			Replicas: []*jetstream.PeerInfo{peer(true, now), peer(false, long), peer(false, now), peer(false, now)}}, true},
		{"one of two gone", &jetstream.ClusterInfo{Leader: "n1", Replicas: []*jetstream.PeerInfo{peer(true, now)}}, false},
	} {
		if err := led(c.cluster); (err == nil) != c.ready {
			t.Errorf("%s: error %v, want ready %v", c.name, err, c.ready)
		}
	}
}
