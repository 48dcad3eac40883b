package deliver

import (
	"testing"
	"time"

	"github.com/brazier-relay/brazier/sendapi"
	"github.com/brazier-relay/brazier/worker"
)

func TestEveryClassHasAPolicy(t *testing.T) {
	for _, class := range sendapi.Classes() {
		if _, ok := policies[class]; !ok {
			t.Errorf("class %s has no policy", class)
		}
	}
	if len(policies) != len(sendapi.Classes()) {
		t.Errorf("%d policies for %d classes", len(policies), len(sendapi.Classes()))
	}
}

// A transient failure has no bound but the message's expiry, and delays that grow to a quarter of an hour. What refuses calls
// in Facebook's stead is not asked for long.
func TestTransient(t *testing.T) {
	for _, c := range []struct {
		name    string
		err     sendapi.Error
		bounded bool
	}{
		{"no connection", sendapi.Error{}, false},
		{"an outage", sendapi.Error{Status: 500, Code: 2, Type: "OAuthException"}, false},
		{"a gateway", sendapi.Error{Status: 503, Silent: true}, false},
		{"a firewall", sendapi.Error{Status: 403, Silent: true}, true},
		{"a wrong address", sendapi.Error{Status: 404, Silent: true}, true},
		{"Facebook's 403", sendapi.Error{Status: 403, Code: 2}, false},
		{"Facebook's 403 without a code", sendapi.Error{Status: 403, Type: "GraphBatchException"}, false},
	} {
		c.err.Class = sendapi.ClassTransient
		p := policyOf(&c.err)
		if p.outcome != worker.Retry || p.delays.Max != 15*time.Minute {
			t.Errorf("%s: %+v", c.name, p)
		}
		if bounded := p.maxAttempts > 0; bounded != c.bounded || p.maxAttempts > 5 {
			t.Errorf("%s: up to %d attempts", c.name, p.maxAttempts)
		}
	}
}
