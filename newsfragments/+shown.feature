``txsticky ctl status``, the status page and ``txsticky_worker_leader`` in the metrics tell which worker is the leader.
Shells complete ``txsticky publish`` as well.
