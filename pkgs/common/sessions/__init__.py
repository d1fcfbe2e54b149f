"""What a service keeps of its users' sessions whatever their protocol: recordings on their way to the Auth
Service, and which sessions are open, so that a killed service's are ended by the next.

Must not know any protocol, nor what a recording shows.
"""
