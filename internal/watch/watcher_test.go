package watch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllertest"

	configv1alpha2 "github.com/openservicemesh/osm-operator/api/config/v1alpha2"
	specsv1alpha4 "github.com/openservicemesh/osm-operator/api/smi/specs/v1alpha4"
	"github.com/openservicemesh/osm-operator/internal/mesh"
	"github.com/openservicemesh/osm-operator/internal/watch"
)

// kinds is a cache of informers that the test feeds, by the type of their objects.
type kinds struct {
	cache.Cache

	mu sync.Mutex
	// Protected by mu.
	informers map[string]*informer
	missing   map[string]error
	unsynced  map[string]bool
	asked     map[string]int
}

// informer remembers its handler, so that a test can give it what an object is not.
type informer struct {
	*controllertest.FakeInformer
	handler toolscache.ResourceEventHandler
}

// AddEventHandler implements cache.Informer.
func (i *informer) AddEventHandler(h toolscache.ResourceEventHandler) (toolscache.ResourceEventHandlerRegistration, error) {
	i.handler = h
	return i.FakeInformer.AddEventHandler(h)
}

func newKinds() *kinds {
	return &kinds{informers: map[string]*informer{}, missing: map[string]error{}, unsynced: map[string]bool{}, asked: map[string]int{}}
}

func nameOf(o any) string { return fmt.Sprintf("%T", o) }

// GetInformer implements cache.Informers.
func (k *kinds) GetInformer(_ context.Context, o client.Object, _ ...cache.InformerGetOption) (cache.Informer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked[nameOf(o)]++
	if err := k.missing[nameOf(o)]; err != nil {
		return nil, err
	}
	return k.informer(o), nil
}

func (k *kinds) informer(o client.Object) *informer {
	if k.informers[nameOf(o)] == nil {
		var options []controllertest.InformerOption
		if !k.unsynced[nameOf(o)] {
			options = append(options, controllertest.Synced)
		}
		k.informers[nameOf(o)] = &informer{FakeInformer: controllertest.NewFakeInformer(options...)}
	}
	return k.informers[nameOf(o)]
}

func (k *kinds) of(o client.Object) *informer {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.informer(o)
}

// add gives objects to those who watch.
func (k *kinds) add(objects ...client.Object) {
	for _, o := range objects {
		k.of(o).Add(o)
	}
}

// lose says that a kind cannot be watched; nil says that it can.
func (k *kinds) lose(o client.Object, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.missing[nameOf(o)] = err
}

// seen are the Models that came out.
type seen struct {
	mu sync.Mutex
	// Protected by mu.
	models  []*mesh.Model
	changes []mesh.Change
	// busy, if set, is waited for in each call.
	busy chan struct{}
}

func (s *seen) sink(_ context.Context, m *mesh.Model, c mesh.Change) {
	s.mu.Lock()
	s.models, s.changes = append(s.models, m), append(s.changes, c)
	s.mu.Unlock()
	if s.busy != nil {
		<-s.busy
	}
}

func (s *seen) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.models)
}

func (s *seen) last() *mesh.Model {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.models) == 0 {
		return nil
	}
	return s.models[len(s.models)-1]
}

// run runs a Watcher in the bubble until the test ends, and returns once it rests.
func run(t *testing.T, k *kinds, s *seen, change ...func(*watch.Options)) {
	t.Helper()
	o := watch.Options{Cache: k, Defaults: mesh.DefaultSettings("osm", "osm-system", "cluster.local")}
	for _, c := range change {
		c(&o)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- watch.New(o).Run(ctx, s.sink) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	synctest.Wait()
}

func meshConfig(permissive bool) *configv1alpha2.MeshConfig {
	return &configv1alpha2.MeshConfig{
		ObjectMeta: metav1.ObjectMeta{Namespace: "osm-system", Name: "osm-mesh-config"},
		Spec:       configv1alpha2.MeshConfigSpec{Traffic: &configv1alpha2.TrafficSpec{EnablePermissiveTrafficPolicyMode: &permissive}},
	}
}

func monitored(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"openservicemesh.io/monitored-by": "osm"}}}
}

func serviceOn(name string, port int32) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec:       corev1.ServiceSpec{ClusterIPs: []string{"10.96.0.1"}, Ports: []corev1.ServicePort{{Port: port}}},
	}
}

func key(name string) mesh.Key { return mesh.Key{Namespace: "shop", Name: name} }

func TestNothingIsPublishedBeforeAllIsRead(t *testing.T) {
	for name, late := range map[string]client.Object{
		"pods": &corev1.Pod{}, "nodes": &metav1.PartialObjectMetadata{}, "policies": &specsv1alpha4.TCPRoute{},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, s := newKinds(), &seen{}
				k.unsynced[nameOf(late)] = true
				run(t, k, s)
				k.add(meshConfig(true), monitored("shop"))
				time.Sleep(time.Hour)
				if s.count() != 0 {
					t.Error("a Model came out though not all was read")
				}
				k.of(late).Synced()
				time.Sleep(time.Second)
				if m := s.last(); m == nil || m.Namespaces["shop"] == nil {
					t.Error("no Model came out though all was read")
				}
			})
		})
	}
}

func TestNothingIsPublishedWithoutAMeshConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s := newKinds(), &seen{}
		run(t, k, s)
		other := meshConfig(true)
		other.Namespace = "shop"
		k.add(monitored("shop"), other)
		time.Sleep(time.Hour)
		if s.count() != 0 {
			t.Fatal("a Model came out though nobody has said what is let through")
		}
		k.add(meshConfig(false))
		synctest.Wait()
		if m := s.last(); m == nil || m.Settings.Permissive {
			t.Errorf("the Model is %+v", m)
		}
	})
}

func TestADeletedMeshConfigStillHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s := newKinds(), &seen{}
		var told []string
		run(t, k, s, func(o *watch.Options) {
			o.MeshConfig = func(c *mesh.Object[configv1alpha2.MeshConfigSpec], problems []string) {
				told = append(told, fmt.Sprint(*c.Spec.Traffic.EnablePermissiveTrafficPolicyMode, len(problems)))
			}
		})
		k.add(meshConfig(false))
		synctest.Wait()
		k.of(meshConfig(false)).Delete(meshConfig(false))
		synctest.Wait()
		if m := s.last(); m.Settings.Permissive || s.count() != 1 {
			t.Error("without its MeshConfig the mesh became permissive")
		}
		k.add(meshConfig(true))
		synctest.Wait()
		if !s.last().Settings.Permissive {
			t.Error("a new MeshConfig is not followed")
		}
		if !slices.Equal(told, []string{"false 0", "true 0"}) {
			t.Errorf("told of MeshConfigs %q", told)
		}
	})
}

func TestKindsThatAreNotInstalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s := newKinds(), &seen{}
		route := &specsv1alpha4.TCPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db"}}
		k.lose(route, &meta.NoKindMatchError{})
		run(t, k, s)
		k.add(meshConfig(true), monitored("shop"))
		synctest.Wait()
		if s.count() == 0 {
			t.Fatal("a kind that is not installed keeps all from coming out")
		}
		k.lose(route, nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		k.add(route)
		synctest.Wait()
		if len(s.last().Policies.TCPRoutes) != 1 {
			t.Error("a kind that was installed later is not followed")
		}
	})
}

func TestAnAPIServerThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s := newKinds(), &seen{}
		k.lose(&corev1.Pod{}, errors.New("connection refused"))
		run(t, k, s)
		time.Sleep(time.Minute)
		synctest.Wait()
		if k.asked[nameOf(&corev1.Pod{})] < 5 || s.count() != 0 {
			t.Errorf("asked %d times, %d models", k.asked[nameOf(&corev1.Pod{})], s.count())
		}
		k.lose(&corev1.Pod{}, nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		k.add(meshConfig(true))
		synctest.Wait()
		if s.count() != 1 {
			t.Error("nothing came out once the API server was back")
		}
	})
}

func TestCoalescingWhileTheConsumerIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s := newKinds(), &seen{busy: make(chan struct{})}
		run(t, k, s)
		k.add(meshConfig(true), monitored("shop"))
		synctest.Wait()
		for i := range int32(100) {
			k.add(serviceOn("web", 80+i), serviceOn(fmt.Sprintf("s%d", i), 80))
		}
		synctest.Wait()
		if s.count() != 1 {
			t.Fatalf("the consumer is called %d times at once", s.count())
		}
		start := time.Now()
		s.busy <- struct{}{}
		synctest.Wait()
		if s.count() != 2 || len(s.changes[1].Services) != 101 || s.last().Services[key("web")].Ports[0].Number != 179 {
			t.Errorf("%d calls, the last with %d Services, want the newest of all in one call", s.count(), len(s.changes[1].Services))
		}
		s.busy <- struct{}{}
		synctest.Wait()
		k.add(serviceOn("web", 81))
		synctest.Wait()
		if s.count() != 3 || time.Since(start) != 0 {
			t.Error("an event is not handed on at once while the consumer is idle")
		}
		k.add(serviceOn("web", 81)) // the same again
		close(s.busy)
		synctest.Wait()
		if s.count() != 3 {
			t.Error("an event that changes nothing is handed on")
		}
	})
}

func TestTombstones(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s := newKinds(), &seen{}
		var events []string
		run(t, k, s, func(o *watch.Options) {
			o.Event = func(kind, what, namespace string) { events = append(events, kind+" "+what+" "+namespace) }
		})
		web := serviceOn("web", 80)
		k.add(meshConfig(true), monitored("shop"), web)
		synctest.Wait()
		if s.last().Services[key("web")] == nil {
			t.Fatal("the Service is not in the Model")
		}
		k.of(web).handler.OnDelete(toolscache.DeletedFinalStateUnknown{Key: "shop/web", Obj: web})
		synctest.Wait()
		if s.last().Services[key("web")] != nil {
			t.Error("a Service whose end was missed is still in the Model")
		}
		want := []string{"MeshConfig added osm-system", "Namespace added ", "Service added shop", "Service deleted shop"}
		if !slices.Equal(events, want) {
			t.Errorf("events are %q, want %q", events, want)
		}
	})
}
