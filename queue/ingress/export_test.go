package ingress

// Idle returns how many connections are idle, as the server sees it. That is after the answer to a request has gone.
func (s *Server) Idle() int {
	s.listener.mu.Lock()
	defer s.listener.mu.Unlock()
	return s.listener.idle.Len()
}
