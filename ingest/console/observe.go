package console

import (
	"net/http"
	"time"
)

// Served is one request that was answered, for counting. It says nothing of who asked,
// or for what.
type Served struct {
	Route  string // pattern, such as /admin/sessions/{session}
	Method string
	Status int
	Took   time.Duration
	// Problem is the code of what went wrong; empty: nothing.
	Problem string
}

// seen is an answer with what is counted of it.
type seen struct {
	http.ResponseWriter
	status  int
	problem string
}

func (s *seen) WriteHeader(status int) {
	if s.status == 0 {
		s.status = status
	}
	s.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (s *seen) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// observed tells of the requests to a route.
func (c *Console) observed(route string, next http.HandlerFunc) http.HandlerFunc {
	if c.Observe == nil {
		return next
	}
	return func(w http.ResponseWriter, r *http.Request) {
		s, began := &seen{ResponseWriter: w}, time.Now()
		defer func() {
			if s.status == 0 {
				s.status = http.StatusOK
			}
			c.Observe(Served{route, r.Method, s.status, time.Since(began), s.problem})
		}()
		next(s, r)
	}
}
