package sandbox

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
)

// subscribedApps serves GET, POST and DELETE of /{version}/{page}/subscribed_apps (page subscribed_apps reference). These calls are
// not in the record, count for no limit and meet no scripted fault, since those are about messages. It is a guess that POST
// replaces the fields and that the checks of the token are those of a message.
func (h graphHandler) subscribedApps(w http.ResponseWriter, r *http.Request, req *request) {
	rnd := h.askedRand()
	err := req.readBody(r)
	var body []byte
	if err == nil {
		body, err = h.judgeSubscription(r.Method, req, rnd)
	}
	trace := traceID(rnd)
	status := http.StatusOK
	header := w.Header()
	if err != nil {
		e := err.varied(rnd)
		status, body = e.status, e.body(rnd, trace)
		header["Www-Authenticate"] = []string{e.challenge()}
	}
	header["X-Sandbox"] = sandboxHeader
	header["Facebook-Api-Version"] = []string{servedVersion(req.version)}
	header["X-Fb-Trace-Id"] = []string{trace}
	header["Content-Type"] = jsonType
	w.WriteHeader(status)
	_, _ = w.Write(body) // if the caller is gone, nothing can be done
}

func (s *Sandbox) judgeSubscription(method string, req *request, rnd *rand.Rand) ([]byte, *graphError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.authorise(req, s.clock(), rnd)
	if err != nil {
		return nil, err
	}
	success := []byte(`{"success":true}`)
	switch method {
	case http.MethodGet:
		return s.subscriptionOf(p), nil
	case http.MethodDelete:
		p.subscribe(nil)
		s.hooks.signal()
		return success, nil
	case http.MethodPost:
		fields, err := fieldsParam(req.params["subscribed_fields"])
		if err != nil {
			return nil, err
		}
		p.subscribe(fields)
		return success, nil
	}
	return nil, errMethod(method)
}

// fieldsParam reads fields separated by commas, or a JSON array of them.
func fieldsParam(text string) ([]string, *graphError) {
	if blank(text) {
		return nil, missing("subscribed_fields")
	}
	var fields []string
	if json.Unmarshal([]byte(text), &fields) != nil {
		fields = strings.Split(text, ",")
	}
	for i, f := range fields {
		fields[i] = strings.TrimSpace(f)
		if !slices.Contains(knownFields, fields[i]) {
			return nil, invalid(100, 0, fmt.Sprintf("(#100) Param subscribed_fields[%d] must be one of {%s}", i, strings.Join(knownFields, ", ")))
		}
	}
	return fields, nil
}

// subscriptionOf lists the apps that are subscribed to a page: the page's one, or none. The caller holds mu.
func (s *Sandbox) subscriptionOf(p *page) []byte {
	type app struct {
		Name   string   `json:"name"`
		ID     string   `json:"id"`
		Fields []string `json:"subscribed_fields"`
	}
	list := struct {
		Data []app `json:"data"`
	}{[]app{}}
	if len(p.fields) > 0 {
		a := s.hooks.app(p.App)
		list.Data = append(list.Data, app{a.Name, a.id(), p.fields})
	}
	b, err := json.Marshal(list)
	if err != nil {
		panic("sandbox: subscribed_apps: " + err.Error()) // strings always have a JSON form
	}
	return b
}
