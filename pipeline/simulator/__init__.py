"""The world outside the service: belt, cameras, broker, line controller, wire tap, and a truth of their own.

Each is a process started through its handle (``LineProcess``, ``ControllerProcess``, ``ObserverProcess``,
``BrokerProcess``); none of them imports anything of the service.
"""
