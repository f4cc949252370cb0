import time
from tests.real.test_dockerd import *
from tests.real.test_dockerd import _pull_all,_short
def test_phase(upstream, mirror, dockerd):
    t=time.monotonic()
    def lap(w):
        nonlocal t
        print(w, round(time.monotonic()-t,2)); t=time.monotonic()
    served = mirror({"docker.io": upstream.registry.url}); lap("mirror")
    client = dockerd(served.authority); lap("dockerd")
    def pa():
        for held in client.images():
            t0=time.monotonic(); client.rmi(held); print("  rmi",held,round(time.monotonic()-t0,2))
        for name in upstream.images:
            t0=time.monotonic(); client.pull(f"{_short(name)}:1"); t1=time.monotonic()
            client.image_id(f"{_short(name)}:1")
            print("  ",name,round(t1-t0,2),round(time.monotonic()-t1,2))
    pa(); lap("cold")
    client.run("busybox:1"); lap("run")
    pa(); lap("warm")
    upstream.registry.stop(); lap("stop")
    pa(); lap("gone")
    served.stop(); lap("mirror stop")
    served.start(); lap("mirror start")
    pa(); lap("pull")
    print(served.log)
