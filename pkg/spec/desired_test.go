package spec

import (
	"reflect"
	"testing"
)

// TestEqualComparesEveryField clears each field of a Binding and of a Desired in turn and expects Equal to notice it.
func TestEqualComparesEveryField(t *testing.T) {
	full := Binding{PortID: "p", Reading: Unknown, Fault: "f", Container: Container{ContainerID: "c"},
		Port:          Port{Addresses: []string{"10.0.0.1/24"}, MAC: "m", Bridge: "b"},
		Configuration: []byte("{}"), Note: "n", ConfigurationUnreadable: true}
	var empty Binding
	for _, path := range [][]int{{0}, {1}, {2}, {3}, {4, 0}, {4, 1}, {4, 2}, {5}, {6}, {7}} {
		other := full
		field := reflect.ValueOf(&other).Elem().FieldByIndex(path)
		if field.IsZero() {
			t.Fatalf("field %v has no value in this test", path)
		}
		field.Set(reflect.ValueOf(empty).FieldByIndex(path))
		if full.Equal(&other) {
			t.Errorf("field %v is not compared", path)
		}
	}
	if n := reflect.TypeFor[Binding]().NumField() + reflect.TypeFor[Port]().NumField(); n != 8+3 {
		t.Errorf("there are %d fields, and Equal compares 11", n)
	}
	same := full
	same.Configuration = []byte("{}")
	set := Desired{Unread: "u", Host: Host{ID: "h"}, Bindings: []Binding{full}, Settings: map[string]string{"k": "v"}}
	sameSet := Desired{
		Unread: "u", Host: Host{ID: "h"}, Bindings: []Binding{same}, Settings: map[string]string{"k": "v"},
	}
	if !set.Equal(&sameSet) {
		t.Error("two sets with equal fields are not equal")
	}
	for i := range reflect.TypeFor[Desired]().NumField() {
		other := set
		reflect.ValueOf(&other).Elem().Field(i).SetZero()
		if set.Equal(&other) {
			t.Errorf("field %d of Desired is not compared", i)
		}
	}
	if n := reflect.TypeFor[Desired]().NumField(); n != 4 {
		t.Errorf("there are %d fields, and Equal compares 4", n)
	}
}
